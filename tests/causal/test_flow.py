import numpy as np
import pytest

from vseam_lib.causal import flow, patching
from vseam_lib.causal.flow import crossing_layer, information_flow, role_table
from vseam_lib.causal.patching import effects, masks, patched_logits, record_pair
from vseam_lib.store import Store
from vseam_lib.vlm.spans import roles, spans


@pytest.fixture(scope="module")
def some(triples):
    """A few triples of every category."""
    return [t for c in dict.fromkeys(t.category for t in triples)
            for t in [t for t in triples if t.category == c][:2]]  # fmt: skip


@pytest.fixture(scope="module")
def run(adapter, some, edited, tmp_path_factory):
    return information_flow(adapter, some, edited, tmp_path_factory.mktemp("flow"), select="all")


def test_stored_effects_are_those_of_single_patches(adapter, some, edited, run):
    triple = some[3]
    pair = record_pair(adapter, triple.image, edited[triple.id], triple.question, triple.answer)
    group = pair.clean.group
    by_role = roles(adapter, group, triple.question, triple.category)
    for site, span, at in (
        ("block", "image", spans(adapter, group)["image"]),
        ("attn", "object", by_role["object"]),
        ("mlp", "last token", by_role["last token"]),
    ):
        where = masks({span: at}, len(group.ids))
        truth = effects(adapter, pair, patched_logits(adapter, pair, site, where))
        for metric in patching.METRICS:
            values, images = run.array(site, span, metric, str(triple.category))
            own = run.effects.query("id == @triple.id and site == @site and span == @span")
            own = own[own["metric"] == metric].sort_values("layer")["value"]
            np.testing.assert_allclose(own, truth[metric][:, 0].numpy(), atol=1e-12)
            assert values.shape[1] == adapter.n_layers and len(images) == len(values)


def test_equation_4_keeps_what_the_edit_turns_wrong(adapter, some, edited, run, tmp_path):
    chosen = information_flow(adapter, some, edited, tmp_path)
    wanted = run.answers["clean"] & ~run.answers["corrupted"]
    assert chosen.answers["selected"].tolist() == wanted.tolist()
    assert set(chosen.effects["id"]) == set(run.answers["id"][wanted])
    assert run.answers["selected"].all()


def test_a_second_run_computes_nothing_and_another_edit_is_computed(
    adapter, some, edited, tmp_path, monkeypatch
):
    first = information_flow(adapter, some[:4], edited, tmp_path, select="all")
    monkeypatch.setattr(flow, "record_pair", None)
    again = information_flow(adapter, some[:4], edited, tmp_path, select="all")
    assert first.effects.equals(again.effects) and first.answers.equals(again.answers)
    other = edited | {some[0].id: edited[some[1].id]}
    with pytest.raises(TypeError):
        information_flow(adapter, some[:4], other, tmp_path, select="all")


def test_a_killed_run_keeps_what_it_computed(adapter, some, edited, tmp_path, monkeypatch):
    monkeypatch.setattr(flow, "PART", 2)
    record, calls = flow.record_pair, []

    def killed(*args):
        calls.append(args)
        if len(calls) > 4:
            raise KeyboardInterrupt
        return record(*args)

    monkeypatch.setattr(flow, "record_pair", killed)
    with pytest.raises(KeyboardInterrupt):
        information_flow(adapter, some, edited, tmp_path, select="all")
    calls.clear()
    monkeypatch.setattr(flow, "record_pair", lambda *a: (calls.append(a), record(*a))[1])
    information_flow(adapter, some, edited, tmp_path, select="all")
    assert len(calls) == len(some) - 4


def test_another_model_has_a_store_of_its_own(adapter, blip, some, edited, tmp_path):
    one = information_flow(adapter, some[:2], edited, tmp_path, select="all")
    two = information_flow(blip, some[:2], edited, tmp_path, select="all")
    assert not np.allclose(one.answers["logit"], two.answers["logit"])
    assert len(list(tmp_path.iterdir())) == 2


def test_scores_that_are_not_finite_are_rejected_and_not_stored(
    adapter, some, edited, tmp_path, monkeypatch
):
    monkeypatch.setattr(flow, "effects", lambda *a: {k: v * np.nan for k, v in effects(*a).items()})
    with pytest.raises(ValueError, match="not finite, first sample"):
        information_flow(adapter, some[:1], edited, tmp_path, select="all")
    assert not list(tmp_path.rglob("*.parquet"))


def test_role_tables_are_means_in_the_order_of_the_roles(run, adapter):
    table = role_table(run, "attn", "spatial")
    assert list(table.index) == [
        "object", "attribute", "other object", "function words", "template", "last token",
    ]  # fmt: skip
    values, _ = run.array("attn", "object", "logit", "spatial")
    np.testing.assert_allclose(table.loc["object"], values.mean(0))


def test_triples_without_an_edited_image_and_unknown_selections_are_errors(
    adapter, some, edited, tmp_path
):
    with pytest.raises(ValueError, match="2 have none"):
        information_flow(adapter, some[:2], {}, tmp_path)
    with pytest.raises(ValueError, match="selection in"):
        information_flow(adapter, some[:2], edited, tmp_path, select="eq5")


def test_a_store_keeps_runs_of_other_revisions_apart(tmp_path):
    one = Store(tmp_path, {"model": "a"})
    two = Store(tmp_path, {"model": "b"})
    assert one.path != two.path
    (two.path / "key.json").write_text((one.path / "key.json").read_text())
    with pytest.raises(ValueError, match="written by another computation"):
        Store(tmp_path, {"model": "b"})


@pytest.mark.parametrize(
    "curve, level, rising, at",
    [
        ([0, 0.25, 0.75, 1], 0.5, True, 1.5),
        ([1, 0.75, 0.25, 0], 0.5, False, 1.5),
        ([0.6, 1], 0.5, True, 0.0),
        ([0, 0.1], 0.5, True, np.nan),
    ],
)
def test_a_curve_crosses_a_level_between_two_layers(curve, level, rising, at):
    assert crossing_layer(np.array(curve), level, rising=rising) == pytest.approx(at, nan_ok=True)
