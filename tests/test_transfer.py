import numpy as np
import pandas as pd
import pytest

from vseam_lib import transfer
from vseam_lib.causal.heads import Effects
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.ranking import HeadSets
from vseam_lib.modulate import rescale
from vseam_lib.parsing import pope_metrics
from vseam_lib.sources.pope import distinct, read_pope
from vseam_lib.vlm.adapter import Head
from vseam_lib.world.shifted import export_pope

SETS = HeadSets({Head(0, 1): 3.0, Head(2, 3): 1.0}, {Head(0, 0): 2.0, Head(1, 2): 1.0})


def effects_of(right, seed=0):
    delta = np.random.default_rng(seed).normal(size=(len(right), 3, 4))
    return Effects([str(k) for k in range(len(right))], delta, np.ones(len(right)), right)


def test_heads_come_with_a_reason_where_there_are_none():
    mixed = np.arange(8) % 2 == 0
    sets, left_out = transfer.head_sets(
        {"both": effects_of(mixed), "good": effects_of(np.ones(3, bool))}, k=3, overlap="disjoint"
    )
    assert set(sets) == {"both"} and len(sets["both"].positive) == 3
    assert left_out == [("good", "no wrong answers among 3")]
    sets, left_out = transfer.head_sets({"one": effects_of(mixed)}, k=1, overlap="disjoint")
    assert not sets and "c_max - c_min" in left_out[0][1]
    with pytest.raises(ValueError, match="expected an overlap rule"):
        transfer.head_sets({"both": effects_of(mixed)}, k=3, overlap="keep")


def test_the_table_of_sets_counts_heads_in_both_lists():
    effects = {"both": effects_of(np.arange(8) % 2 == 0), "good": effects_of(np.ones(3, bool))}
    sets, left_out = transfer.head_sets(effects, k=6)
    table = transfer.about_heads(effects, sets, left_out, k=6).set_index("heads")
    row = table.loc["both"]
    assert row["in both lists"] > 0 and row["questions"] == 8 and row["wrong answers"] == 4
    assert row["positive"] == row["negative"] == 6 - row["in both lists"]
    assert table.loc["good", "left out because"].startswith("no wrong answers")
    assert table.loc["good", ["in both lists", "positive", "negative"]].tolist() == [0, 0, 0]


def test_random_heads_keep_layers_and_factors():
    edits = transfer.rescaled_at_random(SETS, 3, 4, lam="minmax", draws=30, seed=0)
    own = rescale(SETS, 3, 4, lam="minmax").scale[0]
    assert len(edits) == 30
    for scale in edits.scale:
        assert np.array_equal(np.sort(scale, 1), np.sort(own, 1))
    assert len({scale.numpy().tobytes() for scale in edits.scale}) > 5


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    out = tmp_path_factory.mktemp("pope")
    export_pope(out, images=3)
    return read_pope(out)


@pytest.fixture(scope="module")
def answered(adapter, questions, tmp_path_factory):
    shape = (adapter.n_layers, adapter.n_heads)
    edits = {"original": HeadEdits.none(*shape), "heads": rescale(SETS, *shape)}
    edits["random heads"] = transfer.rescaled_at_random(
        SETS, *shape, lam="minmax", draws=2, seed=0
    )  # fmt: skip
    store = tmp_path_factory.mktemp("store")
    return transfer.pope_answers(adapter, questions, edits, store)


def test_every_row_gets_the_answer_of_its_question(answered, questions):
    _, stands_for = distinct(questions)
    assert len(answered) == 4 * len(questions) == 4 * 54
    assert set(answered["edit"]) == {"original", "heads", "random heads/0", "random heads/1"}
    wide = answered.pivot(index="id", columns="edit", values="margin")
    for own, other in stands_for.items():
        assert wide.loc[own].equals(wide.loc[other].rename(own))
    labels = answered.drop_duplicates("id").set_index("id")["label"]
    assert labels.to_dict() == {q.id: q.answer.lower() for q in questions}
    assert (answered["right"] == (answered["yes"] == (answered["label"] == "yes"))).all()


def test_one_edit_has_one_recall(answered):
    for _, part in answered.groupby("edit"):
        found = {
            pope_metrics(list(own["label"]), list(np.where(own["yes"], "yes", "no"))).recall
            for _, own in part.groupby("subset")
        }
        assert len(found) == 1


def made_up(n_images=12, per=6, seed=0):
    """Rows of :func:`pope_answers` without a model."""
    rng, rows = np.random.default_rng(seed), []
    for k in range(n_images * per):
        label = "yes" if k % 2 else "no"
        base = rng.normal(1 if label == "yes" else -1)
        margins = {
            "original": base - 0.6, "moved": base - 0.1, "better": base + (k % 2 - 0.5) * 2,
            "random heads/0": base + rng.normal(), "random heads/1": base + rng.normal(),
        }  # fmt: skip
        for edit, margin in margins.items():
            rows.append(
                (str(k), "random" if k % 3 else "popular", f"i{k // per}", label, edit, margin)
            )
    table = pd.DataFrame(rows, columns=["id", "subset", "image_id", "label", "edit", "margin"])
    yes = table["margin"] > 0
    return table.assign(yes=yes, right=yes == (table["label"] == "yes"))


def test_changes_of_metrics_are_differences_of_metrics():
    table = made_up()
    found = transfer.pope_changes(table, {"F1": "f1", "yes-rate": "yes_rate"})
    assert found["subset"].unique().tolist() == ["popular", "random", "all"]
    for subset, part in (("random", table[table["subset"] == "random"]), ("all", table)):
        said = {e: np.where(p["yes"], "yes", "no") for e, p in part.groupby("edit")}
        labels = list(part[part["edit"] == "original"]["label"])
        metrics = {e: pope_metrics(labels, x) for e, x in said.items()}
        rows = found[found["subset"] == subset].set_index(["edit", "measure"])
        f1 = 100 * (metrics["better"].f1 - metrics["original"].f1)
        assert rows.loc[("better", "F1"), "mean"] == pytest.approx(f1)
        drawn = [metrics[f"random heads/{k}"].yes_rate for k in (0, 1)]
        drawn = 100 * (np.array(drawn) - metrics["original"].yes_rate)
        chance = rows.loc[("random heads", "yes-rate"), ["mean", "low", "high"]]
        assert chance.tolist() == pytest.approx([drawn.mean(), drawn.min(), drawn.max()])


def test_a_moved_threshold_adds_nothing_beyond_a_threshold():
    matched, apart = transfer.against_threshold(made_up(), "moved", draws=200)
    assert apart == pytest.approx((0, 0, 0), abs=1e-9)
    assert matched.mean == pytest.approx(
        100 * made_up().query("edit == 'moved'")["right"].mean()
    )  # fmt: skip
    assert transfer.against_threshold(made_up(), "better", draws=200)[1].low > 0


def test_changes_are_mean_differences_per_kind():
    table = made_up().rename(columns={"subset": "kind"})
    found = transfer.changes(table, "right", "kind").set_index(["kind", "edit"])
    for kind, part in (("popular", table[table["kind"] == "popular"]), ("all", table)):
        means = 100 * part.groupby("edit")["right"].mean()
        apart = means - means["original"]
        row = found.loc[(kind, "better")]
        assert row["mean"] == pytest.approx(apart["better"])
        assert row["low"] < row["mean"] < row["high"]
        drawn = apart[["random heads/0", "random heads/1"]]
        chance = found.loc[(kind, "random heads"), ["mean", "low", "high"]]
        assert chance.tolist() == pytest.approx([drawn.mean(), drawn.min(), drawn.max()])
    assert found.loc[("all", "better"), "n"] == 72
    assert transfer.draws_of(table, "right") == pytest.approx(drawn.to_numpy())


def test_changes_need_the_unedited_answer_to_every_row():
    table = made_up().rename(columns={"subset": "kind"})
    with pytest.raises(ValueError, match="1 answers missing"):
        transfer.changes(table.drop(index=3), "right", "kind")
    with pytest.raises(ValueError, match="under 'original'"):
        transfer.changes(table[table["edit"] != "original"], "right", "kind")


def test_the_share_of_draws_counts_the_observed_change_as_one():
    against = transfer.against_random(2.0, [0.0, 1.0, 2.0, 3.0])
    assert against == (1.5, 0.0, 3.0, 3 / 5)
    assert transfer.against_random(9.0, np.zeros(19)).p == 1 / 20
