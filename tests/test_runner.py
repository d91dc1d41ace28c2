"""The runner refuses what papermill would let pass, and leaves a trace of every run."""

import json
from pathlib import Path

import nbformat
import pytest

from vseam_lib import profiles, runner
from vseam_lib.profiles import RunnerError

HEADER = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A chapter
# See [the figure](#{run}-fig-square) and {run}`left alone`.

# %% tags=["parameters"]
"""
PARAMETERS = """\
k: int = 3  # heads per set
lam: float = 0.5  # strength
names: list[str] = ["a", "b"]  # categories
label: str = "x"  # any text
"""
BODY = """
# %% mystnb={"figure": {"name": "{run}-fig-square", "caption": "Run {run}."}}
result = k * k
print(result, lam, names, label)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "profiles").mkdir()
    write_chapter(tmp_path, "05_square", BODY)
    write_profile(tmp_path, "tiny", "common: {k: 4}\nchapters:\n  05_square: {lam: 1}\n")
    return tmp_path


def write_chapter(project: Path, name: str, body: str, parameters: str = PARAMETERS) -> None:
    (project / "notebooks" / f"{name}.py").write_text(HEADER + parameters + body)


def write_profile(project: Path, name: str, text: str) -> None:
    (project / "profiles" / f"{name}.yml").write_text(f"title: A small run\n{text}")


def run(project: Path, *more: str, chapter: str = "05_square", profile: str = "tiny") -> int:
    argv = [chapter, "--profile", profile, "-o", str(project / "out" / f"{chapter}.ipynb")]
    folders = ["--notebooks", f"{project}/notebooks", "--profiles", f"{project}/profiles"]
    return runner.main([*argv, *folders, *more])


def executed(project: Path, chapter: str = "05_square"):
    return nbformat.read(project / "out" / f"{chapter}.ipynb", as_version=4)


def tagged(nb, tag):
    return [cell for cell in nb.cells if tag in cell.metadata.get("tags", [])]


def test_a_run_takes_common_then_chapter_then_command_line(project):
    assert run(project, "-p", "label", "007", "-p", "names", "[c]") == 0
    nb = executed(project)
    assert nb.cells[-1].outputs[0].text == "16 1.0 ['c'] 007\n"
    assert nb.metadata.papermill.parameters == {"k": 4, "lam": 1.0, "label": "007", "names": ["c"]}
    assert [p.name for p in (project / "out").iterdir()] == ["05_square.ipynb"]


def test_labels_captions_and_links_carry_the_run_name(project):
    assert run(project) == 0
    nb = executed(project)
    assert nb.cells[-1].metadata.mystnb.figure == {
        "name": "tiny-fig-square",
        "caption": "Run tiny.",
    }
    assert "(#tiny-fig-square)" in nb.cells[0].source
    assert "{run}`left alone`" in nb.cells[0].source


def test_both_parameter_cells_are_hidden(project):
    assert run(project) == 0
    nb = executed(project)
    hidden = tagged(nb, "remove-cell")
    assert hidden == tagged(nb, "parameters") + tagged(nb, "injected-parameters")
    assert len(hidden) == 2


def test_the_card_tells_values_origin_command_and_source(project):
    assert run(project, "-p", "k", "5") == 0
    card = next(c.source for c in executed(project).cells if "this-run" in c.source)
    assert "<code>k</code></th><td><code>5</code></td><td>set</td><td>heads per set" in card
    assert "<td>default</td><td>categories</td>" in card
    assert "python -m vseam_lib.runner 05&#95;square --profile tiny" in card.replace(
        "vseam&#95;lib", "vseam_lib"
    )
    assert "{download}`05_square.py <../notebooks/05_square.py>`" in card
    assert " s on " in card and "Not finished" not in card


def test_the_card_escapes_every_value(project):
    nasty = "</code><script>alert(1)</script> $x$ `y` | {z}"
    assert run(project, "-p", "label", nasty) == 0
    card = next(c.source for c in executed(project).cells if "this-run" in c.source)
    table = card.split("\n\nSource:")[0]
    assert "<script" not in card
    assert not set("$`|{}") & set(table)


def test_an_unknown_profile_lists_the_known_ones(project, capsys):
    assert run(project, profile="tinny") == 2
    error = capsys.readouterr().err
    assert "unknown profile 'tinny': expected one of tiny" in error
    assert "did you mean 'tiny'?" in error


def test_a_profile_may_be_a_file(project):
    path = project / "mine.yml"
    path.write_text("title: Mine\nchapters: {05_square: }\n")
    assert run(project, profile=str(path)) == 0
    assert executed(project).cells[-1].metadata.mystnb.figure.name == "mine-fig-square"


def test_an_unknown_chapter_lists_the_known_ones(project, capsys):
    assert run(project, chapter="05_squares") == 2
    assert "expected one of 05_square; did you mean" in capsys.readouterr().err


def test_an_unknown_parameter_lists_the_declared_ones(project, capsys):
    assert run(project, "-p", "labell", "1") == 2
    error = capsys.readouterr().err
    assert "declares no parameter 'labell', expected one of k, lam, names, label" in error
    assert "did you mean 'label'?" in error
    assert not (project / "out").exists()


def test_an_unknown_parameter_in_a_profile_is_an_error(project, capsys):
    write_profile(project, "tiny", "chapters: {05_square: {kk: 1}}")
    assert run(project) == 2
    assert "profile tiny: chapters.05_square: 05_square declares no" in capsys.readouterr().err


def test_a_common_key_that_no_chapter_declares_is_an_error(project, capsys):
    write_profile(project, "tiny", "common: {seeed: 1}\nchapters: {05_square: {}}")
    assert run(project) == 2
    assert "common: any chapter declares no parameter 'seeed'" in capsys.readouterr().err


def test_a_common_key_goes_only_to_chapters_that_declare_it(project):
    write_chapter(project, "06_other", "\n# %%\nprint(seed)\n", "seed: int = 1  # of the draws\n")
    write_profile(project, "tiny", "common: {k: 4, seed: 9}\nchapters: {05_square: , 06_other: }")
    assert run(project) == 0
    assert run(project, chapter="06_other") == 0
    assert executed(project, "06_other").metadata.papermill.parameters == {"seed": 9}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("k", "many", "parameter 'k' expects int, got 'many' (str)"),
        ("k", "2.5", "parameter 'k' expects int, got 2.5 (float)"),
        ("k", "true", "parameter 'k' expects int, got True (bool)"),
        ("lam", "strong", "parameter 'lam' expects float, got 'strong' (str)"),
        ("names", "a", "parameter 'names' expects list[str], got 'a' (str)"),
        ("names", "[a, 1]", "parameter 'names' expects list[str], got ['a', 1] (list)"),
    ],
)
def test_a_wrong_type_names_parameter_type_and_value(project, capsys, name, text, message):
    assert run(project, "-p", name, text) == 2
    assert message in capsys.readouterr().err


def test_a_number_that_yaml_reads_as_text_is_explained(project, capsys):
    write_profile(project, "tiny", "chapters: {05_square: {lam: 1e-3}}")
    assert run(project) == 2
    assert "YAML reads 1e-3 as text, write 0.001" in capsys.readouterr().err


def test_optional_parameters_accept_none():
    optional = profiles.Parameter("share", "float | None", None, "")
    assert profiles.check_value(optional, None, "here") is None
    assert profiles.check_value(optional, 1, "here") == 1.0
    with pytest.raises(RunnerError, match="expects float | None, got 'x'"):
        profiles.check_value(optional, "x", "here")


@pytest.mark.parametrize("annotation", ["int | float", "float | int", "Union[int, float]"])
def test_a_choice_of_types_keeps_the_type_that_was_given(annotation):
    k = profiles.Parameter("k", annotation, 10, "")
    assert repr(profiles.check_value(k, 10, "here")) == "10"
    assert repr(profiles.check_value(k, 0.07, "here")) == "0.07"
    with pytest.raises(RunnerError, match="parameter 'k' expects"):
        profiles.check_value(k, True, "here")


def test_a_failing_chapter_keeps_what_ran_and_the_earlier_output(project, capsys):
    assert run(project) == 0
    before = (project / "out/05_square.ipynb").read_bytes()
    write_chapter(project, "05_square", BODY + "\n# %%\nraise ValueError('no such image')\n")
    assert run(project) == 1
    error = capsys.readouterr().err
    assert "failed with ValueError: no such image" in error
    assert "05_square.failed.ipynb" in error
    kept = json.loads((project / "out/05_square.failed.ipynb").read_text())
    assert "16 1.0" in json.dumps(kept)
    assert (project / "out/05_square.ipynb").read_bytes() == before
    write_chapter(project, "05_square", BODY)
    assert run(project) == 0
    assert not (project / "out/05_square.failed.ipynb").exists()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("k = 3  # no type\n", "expected 'name: type = value  # meaning', got 'k = 3'"),
        ("k: int = len('abc')  # computed\n", "is not a literal value"),
    ],
)
def test_a_parameter_cell_must_be_readable(project, capsys, parameters, message):
    write_chapter(project, "05_square", BODY, parameters)
    assert run(project) == 2
    assert message in capsys.readouterr().err


def test_a_profile_with_an_unknown_key_is_an_error(project, capsys):
    write_profile(project, "tiny", "chapter: {05_square: {}}")
    assert run(project) == 2
    assert "unknown key 'chapter'" in capsys.readouterr().err
