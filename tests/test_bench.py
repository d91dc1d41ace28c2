"""The benchmark compares like with like, scales fairly, and says what is missing."""

import copy
import dataclasses
import io
import json
from pathlib import Path

import pytest
import torch
from sphinx.application import Sphinx

from vseam_lib.bench import __main__ as command
from vseam_lib.bench import cases, compare, engines, full_size, measure, report, tools
from vseam_lib.bench.cases import PATCHING, SWEEP, TASKS, Case, Every

ROOT = Path(__file__).parents[1]
TOOLS = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(
            not measure.version(kind.package),
            reason=f"{kind.package} is not installed; `make bench` installs it",
        ),
    )
    for kind in (tools.NNsight, tools.Lens)
]


@pytest.fixture
def case(adapter32, one_image, triples):
    """Two questions of one image on the tests' small untrained LLaVA."""
    return Case(
        "toy",
        "for tests",
        lambda: dataclasses.replace(adapter32, model=copy.deepcopy(adapter32.model)),
        [one_image[:2]],
        question=one_image[0],
        edited=next(t.image for t in triples if t.image != one_image[0].image),
        every={SWEEP: Every(layers=2), PATCHING: Every(layers=2, tokens=3)},
        wanted={SWEEP: 1e-6},
    )


@pytest.fixture
def two_engines(monkeypatch):
    monkeypatch.setattr(compare, "ENGINES", (engines.Ours, engines.Plain))


def stub_weights(label):
    return {task: {"rows": 1.0, "images": 1, "peak MiB": 2.0} for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", [engines.Ours, *TOOLS])
def test_every_engine_finds_the_numbers_of_one_forward_per_intervention(case, kind, task):
    engine, plain = kind(case.build()), engines.Plain(case.build())
    sites = case.sites(engine.adapter, task)
    found, expected = (engines.run(e, case, task, sites) for e in (engine, plain))
    assert torch.allclose(found, expected, atol=1e-5)
    assert (expected.max(1).values - expected.min(1).values).min() > 1e-3


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", [engines.Plain, *TOOLS])
def test_asking_for_no_intervention_costs_no_intervention(case, kind, task):
    engine = kind(case.build())
    with measure.counted(engine.adapter) as work:
        assert engines.run(engine, case, task, []).numel() == 0
    inputs = cases.model_inputs(case.build(), case.question.image, case.question.question)
    forward = engine.adapter.n_layers * inputs["input_ids"].shape[1]
    assert work.rows == pytest.approx(forward if task == PATCHING else 0)


def test_patched_cells_are_all_layers_and_tokens_after_the_image(case, adapter32):
    cells = case.sites(adapter32, PATCHING)
    ids = cases.model_inputs(adapter32, case.question.image, case.question.question)["input_ids"][0]
    positions = {c.position for c in cells}
    assert adapter32.image_token_id not in ids[sorted(positions)]
    assert ids[min(positions) - 1] == adapter32.image_token_id and max(positions) == len(ids) - 1
    assert len(cells) == 2 * adapter32.n_layers * len(positions) == len(set(cells))


def test_work_of_a_plain_forward_is_its_tokens_times_the_layers(case):
    adapter = case.build()
    inputs = cases.model_inputs(adapter, case.question.image, case.question.question)
    with measure.counted(adapter) as work:
        engines.Plain(adapter).logits(inputs)
    weights = sum(p.numel() for p in adapter.layers[0].parameters() if p.dim() == 2)
    tokens = inputs["input_ids"].shape[1]
    assert work.rows == pytest.approx(tokens * adapter.n_layers)
    assert work.flops == pytest.approx(2 * tokens * adapter.n_layers * weights)
    assert work.images == 1
    engines.Plain(adapter).logits(inputs)
    assert work.images == 1  # the hooks are gone


def test_scaled_work_counts_what_is_needed_once_only_once():
    whole, once = measure.Work(rows=7, images=3, flops=20), measure.Work(rows=1, images=1)
    assert whole.scaled(once, 4) == measure.Work(rows=25, images=9, flops=80)


@pytest.mark.parametrize("kind", [engines.Ours, engines.Plain])
def test_weighing_a_share_gives_the_work_of_the_whole(case, kind):
    found = compare.weigh(kind, case, "cpu")
    for task in TASKS:
        engine = kind(case.build())
        with measure.counted(engine.adapter) as work:
            engines.run(engine, case, task, case.sites(engine.adapter, task))
        assert found[task]["rows"] == pytest.approx(work.rows)
        assert found[task]["images"] == work.images


def test_our_engine_does_less_work(case):
    ours, plain = (compare.weigh(kind, case, "cpu") for kind in (engines.Ours, engines.Plain))
    assert all(ours[task]["rows"] < plain[task]["rows"] / 2 for task in TASKS)


def test_peak_memory_sees_what_a_job_holds():
    mib = measure.peak_mib(lambda: torch.ones(2**24).sum())
    if mib is None:
        pytest.skip("this system does not tell a process its peak memory (Linux does)")
    assert 60 < mib < 80


def test_times_of_a_share_are_scaled_except_for_what_is_needed_once(case, monkeypatch):
    asked = []

    def pretend(engine, case, task, sites):
        asked.append(len(sites))
        return torch.zeros(1, len(sites))

    monkeypatch.setattr(compare, "run", pretend)
    monkeypatch.setattr(compare, "seconds", lambda job, device: (job(), 2.0 + asked[-1])[::-1])
    both = {kind.label: kind(case.build()) for kind in (engines.Ours, engines.Plain)}
    n = len(case.sites(case.build(), PATCHING))
    found = compare._in_turn(case, PATCHING, both, 3, "cpu")
    for label in both:
        assert found[label]["each"] == pytest.approx([2.0 + n] * 3)
    assert found[engines.Plain.label]["measured share"] < 0.5
    assert asked[:5] == [n, asked[1], 0, n, asked[1]]  # in turn


def test_engines_that_disagree_are_not_compared(case, two_engines, monkeypatch):
    class Wrong(engines.Ours):
        def sweep(self, group, heads):
            return super().sweep(group, heads) + 0.01

    monkeypatch.setattr(compare, "ENGINES", (Wrong, engines.Plain))
    with pytest.raises(RuntimeError, match="expected the numbers of one forward.*this engine"):
        compare.compare(case, repeats=1, device="cpu", weigh=stub_weights, say=lambda _: None)


def test_a_tool_that_is_missing_or_fails_gets_a_reason_and_the_rest_runs(case, monkeypatch):
    class Absent(engines.Plain):
        label, package = "absent", "no-such-package"

    class Broken(engines.Plain):
        label, package = "broken", "torch"

        def patch(self, triple, edited, cells):
            raise KeyError("unknown architecture")

    monkeypatch.setattr(compare, "ENGINES", (engines.Ours, engines.Plain, Absent, Broken))
    sizes, rows = compare.compare(
        case, repeats=1, device="cpu", weigh=stub_weights, say=lambda _: None
    )
    assert sizes["heads"] == 4 and len(rows) == 8
    reasons = {r["engine"]: r.get("missing") for r in rows}
    assert reasons["absent"] == "not installed"
    assert "KeyError: 'unknown architecture'" in reasons["broken"]
    assert {t["what"] for t in compare.targets([case], rows, 32)} == {
        "head sweep: faster than one forward each, times",
        "question-token patching: faster than one forward each, times",
        "head sweep: peak memory, MiB; at most 1.5 x one forward (2) + the budget (32)",
    }


def test_our_own_engine_failing_is_an_error(case, monkeypatch):
    class Broken(engines.Plain):
        def patch(self, triple, edited, cells):
            raise KeyError("bug")

    with pytest.raises(KeyError, match="bug"):
        compare.ready(Broken, case)


def test_failed_weighing_shows_the_process_s_last_words(case):
    with pytest.raises(RuntimeError, match="(?s)weighing nonsense on toy failed.*invalid choice"):
        compare.weigh_apart("nonsense", case, "nowhere", "cpu")


def test_the_long_model_has_the_paper_s_token_layout(world):
    case = cases.the_cases(world)["600 positions"]
    tiny = cases.random_llava(1, 2, 8, 16, cases.clip(16, 2, 2))
    sizes = cases.describe(case, tiny)
    assert sizes["positions"] >= 600 and sizes["image tokens"] == 24 * 24


def test_random_models_repeat_from_their_seed():
    build = lambda seed: cases.random_llava(  # noqa: E731
        1, 2, 8, 16, cases.clip(16, 2, 2, image=28), seed=seed
    )
    one, again, other = (build(seed).model.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_missing_data_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="make data"):
        cases.read_groups(tmp_path / "gqa")


def test_full_size_sweep_on_a_small_model(triples):
    adapter = cases.random_llava(3, 4, 8, 32, cases.clip(16, 2, 2, image=56))
    found = full_size.measure(adapter, triples[:3], "cpu", budget_mib=64, matmul_size=128)
    assert found["samples"] == 2 and found["heads"] == 12
    assert found["samples per hour"] == pytest.approx(3600 / found["seconds per sample"])
    assert found["largest difference from plain forwards"] < 1e-6 < found["spread of P(answer)"]
    assert found["share of the peak"] == pytest.approx(
        found["TFLOP/s"] / found["matmul peak, TFLOP/s"]
    )
    with pytest.raises(ValueError, match="one question to warm up and one or more, got 1"):
        full_size.measure(adapter, triples[:1], "cpu")


def test_full_size_has_the_seven_billion_parameters_of_llava():
    adapter = full_size.llava_7b("meta")
    assert 7.0e9 < sum(p.numel() for p in adapter.model.parameters()) < 7.1e9
    assert len(adapter.heads) == 32 * 32 and adapter.d_head == 128


@pytest.mark.parametrize(
    "words, message",
    [
        (["--full-size"], "needs --device cuda"),
        (["--repeats", "0"], "at least one repeat"),
        (["--samples", "0"], "at least one repeat and one sample"),
    ],
)
def test_wrong_options_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        command.main(words)
    assert message in capsys.readouterr().err


@pytest.fixture
def measured(case, two_engines, monkeypatch, tmp_path):
    """The file that the command writes."""
    out = tmp_path / "bench.json"
    out.write_text(json.dumps({"full size": {"samples": 1, "machine": {"processor": "<b>x</b>"}}}))
    monkeypatch.setattr(command, "the_cases", lambda data, device: {case.name: case})
    monkeypatch.setattr(command, "weigh_apart", lambda label, **_: stub_weights(label))
    command.main(["--repeats", "1", "--out", str(out)])
    return out


def test_the_command_prints_a_table_and_keeps_an_earlier_full_size_result(capsys, measured):
    printed = capsys.readouterr().out
    assert "Head sweep, toy: 3 layers, 4 heads" in printed and "one forward each" in printed
    result = json.loads(measured.read_text())
    assert result["full size"]["samples"] == 1
    assert set(result["machine"]) >= {"processor", "threads", "date", *measure.PACKAGES}
    assert [r["engine"] for r in result["rows"]] == ["this engine", "one forward each"] * 2


def test_weighing_is_one_line_of_json(case, monkeypatch, capsys):
    monkeypatch.setattr(command, "the_cases", lambda data, device: {case.name: case})
    command.main(["--weigh", "one forward each", "--case", "toy"])
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])) == set(TASKS)


def build_page(folder: Path, text: str) -> tuple[str, str]:
    """HTML and warnings of a page with the extension."""
    (folder / "conf.py").write_text("")
    (folder / "index.rst").write_text(f"Title\n=====\n\n{text}\n")
    warnings = io.StringIO()
    sys_path = [str(ROOT / "book/_ext")]
    with pytest.MonkeyPatch.context() as patch:
        for path in sys_path:
            patch.syspath_prepend(path)
        app = Sphinx(
            folder,
            folder,
            folder / "out",
            folder / "trees",
            "html",
            confoverrides={"extensions": ["vseam_bench"], "numfig": True},
            status=None,
            warning=warnings,
        )
        app.build()
    return (folder / "out/index.html").read_text(), warnings.getvalue()


def test_the_page_shows_every_part_as_escaped_text(measured):
    text = "\n\n".join(f".. bench:: {part}" for part in report.PARTS)
    html, warnings = build_page(measured.parent, text)
    assert not warnings
    assert html.count("<table") == len(report.PARTS) + 1  # times: one per task
    assert "&lt;b&gt;x&lt;/b&gt;" in html and "<b>x</b>" not in html


@pytest.mark.parametrize(
    "part, message", [("nonsense", "expected one of times, targets"), ("times", "make bench")]
)
def test_the_page_says_what_is_wrong(part, message, tmp_path):
    _, warnings = build_page(tmp_path, f".. bench:: {part}")
    assert message in warnings


def test_missing_engines_and_measures_show_as_words(measured):
    result = json.loads(measured.read_text())
    result["rows"][1] = {k: result["rows"][1][k] for k in ("model", "task", "engine", "how")}
    result["rows"][1]["missing"] = "not installed"
    result["rows"][0]["peak MiB"] = None
    del result["full size"]
    (sweep, _), full = report.PARTS["times"](result), report.full_size_table(result)
    assert sweep.rows[1][:3] == ["one forward each", "not installed", "–"]
    assert sweep.rows[0][6] == "–" and full.rows == [["sweep", "not measured"]]
    assert "not installed" in report.as_text(sweep)


def test_the_committed_numbers_are_complete():
    result = json.loads((ROOT / "book/bench.json").read_text())
    for part in report.PARTS.values():
        assert all(len(row) == len(t.header) for t in part(result) for row in t.rows)
    assert {r["engine"] for r in result["rows"]} == {kind.label for kind in compare.ENGINES}
    assert all(r["difference"] <= compare.AGREE[r["task"]] for r in result["rows"])
