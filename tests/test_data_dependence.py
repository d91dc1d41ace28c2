"""Heads from shares of the images: the draws, their answers, and the curves."""

import numpy as np
import pandas as pd
import pytest

from vseam_lib import data_dependence as dd
from vseam_lib import paper
from vseam_lib.causal import ranking as rank
from vseam_lib.causal.heads import Effects
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.changes import per_question
from vseam_lib.evaluate import answers
from vseam_lib.modulate import rescale
from vseam_lib.triples import Category, by_category

L, H = 3, 4
SHARES = [0.25, 0.5, 1.0]


def invented(triples, wrong):
    """Effects drawn at random, of triples of which some are answered wrongly."""
    rng = np.random.default_rng(0)
    right = np.array([t.id not in wrong for t in triples])
    n = len(triples)
    return Effects([t.id for t in triples], rng.normal(size=(n, L, H)), np.full(n, 0.5), right)


@pytest.fixture(scope="module")
def own(triples):
    return by_category(triples)[Category.COLOR]


@pytest.fixture(scope="module")
def effects(own):
    return invented(own, {t.id for t in own[::2]})


@pytest.mark.parametrize("shares", [[], [0.0], [0.5, 1.2], [-0.1], [10]])
def test_shares_outside_0_to_1_are_an_error(shares):
    with pytest.raises(ValueError, match="above 0 and at most 1, got.*10 % is 0.1"):
        dd.image_subsets(["a", "b"], shares, 2)


def test_fewer_than_one_repeat_is_an_error():
    with pytest.raises(ValueError, match="at least one repeat, got 0"):
        dd.image_subsets(["a", "b"], [0.5], 0)


def test_subsets_have_their_share_and_grow_within_a_repeat():
    images = [f"i{k}" for k in range(40)] * 2
    subsets = dd.image_subsets(images, [0.5, 0.1, 1.0, 0.001], 6, seed=3)
    sizes = {0.001: 1, 0.1: 4, 0.5: 20, 1.0: 40}
    assert all(len(drawn) == sizes[share] for (share, _), drawn in subsets.items())
    assert [key for key in subsets if key[0] == 1] == [(1.0, 0)], "all images are one subset"
    for r in range(6):
        assert subsets[0.001, r] < subsets[0.1, r] < subsets[0.5, r] < subsets[1.0, 0]
    assert len({frozenset(subsets[0.1, r]) for r in range(6)}) == 6
    assert subsets == dd.image_subsets(images, [0.5, 0.1, 1.0, 0.001], 6, seed=3)
    assert subsets != dd.image_subsets(images, [0.5, 0.1, 1.0, 0.001], 6, seed=4)


def test_a_draw_ranks_the_questions_of_its_images_alone(own, effects):
    draws = dd.choose_on_shares(effects, own, shares=SHARES, repeats=3, k=3, overlap="both", seed=1)
    assert [(d.share, d.repeat) for d in draws] == [
        *((0.25, r) for r in range(3)), *((0.5, r) for r in range(3)), (1.0, 0),
    ]  # fmt: skip
    subsets = dd.image_subsets([t.image_id for t in own], SHARES, 3, seed=1)
    full = draws[-1].sets
    checked = 0
    for draw in draws:
        rows = [i for i, t in enumerate(own) if t.image_id in subsets[draw.share, draw.repeat]]
        wrong = [i for i in rows if not effects.right[i]]
        good = [i for i in rows if effects.right[i]]
        assert draw.wrong == len(wrong)
        if not wrong or not good:
            assert draw.sets is None
            continue
        mean = effects.delta[wrong].mean(0)
        top = np.argsort(-mean.ravel(), kind="stable")[:3]
        assert [h.layer * H + h.head for h in draw.sets.negative] == top.tolist()
        assert draw.negative == rank.jaccard(list(draw.sets.negative), list(full.negative))
        checked += 1
    assert checked >= 3
    assert (draws[-1].positive, draws[-1].negative) == (1, 1)


def test_a_draw_without_wrong_answers_is_kept_with_the_reason(own):
    image = own[0].image_id
    effects = invented(own, {t.id for t in own if t.image_id == image})
    draws = dd.choose_on_shares(effects, own, shares=[0.1, 1.0], repeats=8, k=3, seed=0)
    empty = [d for d in draws if d.wrong == 0]
    assert empty and len(empty) < len(draws)
    for draw in empty:
        assert draw.sets is None and draw.why.startswith("no wrong answers among")
        assert np.isnan(draw.positive)
    assert draws[-1].sets is not None


def test_a_draw_without_factors_is_kept_with_the_reason(adapter, own, effects):
    draws = dd.choose_on_shares(effects, own, shares=[0.5, 1.0], repeats=2, k=1, overlap="both")
    assert all(d.sets is None and "c_max - c_min" in d.why for d in draws)
    with pytest.raises(ValueError, match="none of 3 draws has heads: Eq. 9"):
        dd.answer_draws(adapter, draws, own, "unused")


def test_unknown_switches_are_errors_and_not_empty_draws(own, effects):
    with pytest.raises(ValueError, match="got 'softmax'"):
        dd.choose_on_shares(effects, own, shares=[1.0], k=3, lam="softmax")
    with pytest.raises(ValueError, match="12 heads.*got 13"):
        dd.choose_on_shares(effects, own, shares=[1.0], k=13)


def test_answers_in_one_batch_agree_with_one_draw_at_a_time(adapter, own, effects, tmp_path):
    draws = dd.choose_on_shares(effects, own, shares=SHARES, repeats=2, k=3, overlap="both")
    tested = own[:3]
    found = dd.answer_draws(adapter, draws, tested, tmp_path / "one")
    usable = [d for d in draws if d.sets is not None]
    assert len(found) == len(usable) * len(tested)
    for draw in usable:
        edits = {"original": HeadEdits.none(L, H), "e": rescale(draw.sets, L, H)}
        alone = per_question(answers(adapter, tested, edits, tmp_path / "each")).set_index("id")
        here = found[(found["share"] == draw.share) & (found["repeat"] == draw.repeat)]
        apart = here.set_index("id")["probability"] - alone["probability"]
        assert len(here) == len(tested) and apart.abs().max() < 1e-8
    assert found["probability"].abs().max() > 1e-3


def rows(category, share, repeat, values):
    return pd.DataFrame(
        {
            "id": [f"{category}{i}" for i in range(len(values))],
            "image_id": [f"i{i}" for i in range(len(values))],
            "category": category,
            "accuracy": np.asarray(values, float),
            "share": share,
            "repeat": repeat,
        }
    )


CHANGES = pd.concat(
    [
        rows("color", 0.1, 0, [0, 4]),
        rows("color", 0.1, 1, [2, 6]),
        rows("color", 1.0, 0, [4, 8]),
        rows("material", 0.1, 0, [0, 0]),
        rows("material", 0.1, 1, [8, 0]),
        rows("material", 1.0, 0, [2, 2]),
        rows("animal", 1.0, 0, [-1, -1]),  # no draw of a tenth has heads
    ]
)


def test_the_curve_by_hand():
    found = dd.curve(CHANGES).set_index(["group", "share"])
    assert found.loc[("color", 0.1), "mean"] == 3 and found.loc[("color", 1.0), "mean"] == 6
    assert found.loc[("color", 0.1), "sd"] == pytest.approx(np.std([2, 4], ddof=1))
    assert np.isnan(found.loc[("color", 1.0), "sd"]), "one draw has no spread"
    assert found.loc[("color", 0.1), "recovered"] == 0.5
    both = found.loc[("attribute", 0.1)]
    assert both["mean"] == (3 + 2) / 2
    assert both["sd"] == pytest.approx(np.hypot(np.std([2, 4], ddof=1), np.std([0, 4], ddof=1)) / 2)
    assert both["recovered"] == pytest.approx(2.5 / 4)
    assert ("object", 0.1) not in found.index and ("average", 0.1) not in found.index
    assert found.loc[("average", 1.0), "mean"] == pytest.approx((6 + 2 - 1) / 3)
    assert np.isnan(found.loc[("animal", 1.0), "recovered"]), "there is no gain to recover"


def test_the_spread_of_an_average_matches_that_of_simulated_averages():
    rng = np.random.default_rng(0)
    draws = {c: rng.normal(0, s, 400) for c, s in (("color", 1), ("material", 3), ("animal", 2))}
    changes = pd.concat(rows(c, 0.1, r, [v]) for c, own in draws.items() for r, v in enumerate(own))
    sd = dd.curve(changes).set_index("group").loc["average", "sd"]
    assert sd == pytest.approx(np.std(sum(draws.values()) / 3, ddof=1), rel=0.1)


def test_a_share_is_held_against_all_by_question():
    found = dd.against_full(CHANGES[CHANGES["category"] != "animal"], 0.1)
    assert found.mean == pytest.approx(np.mean([1 - 4, 5 - 8, 4 - 2, 0 - 2]))
    part = dd.against_full(CHANGES[CHANGES["category"] == "color"], 0.1, kept=0.5)
    assert part.mean == pytest.approx(np.mean([1 - 2, 5 - 4]))
    assert part.low == -1 and part.high == 1, "two images: either twice, or both"
    with pytest.raises(ValueError, match="shares 0.3 and 1, got"):
        dd.against_full(CHANGES, 0.3)


@pytest.mark.parametrize("levels, categories", [(4, 21), (19, 20)])
def test_the_papers_levels_are_averages_of_its_categories(levels, categories):
    each = paper.table(categories).set_index("category").drop(columns="model")
    printed = paper.table(levels).set_index("level").drop(columns="model")
    assert (
        list(printed.columns) == list(each.columns) == ["initial", "10", "20", "30", "50", "full"]
    )
    by_level = each.groupby([str(Category(c).level) for c in each.index]).mean()
    assert np.abs(by_level - printed.loc[by_level.index]).max().max() < 0.0101
    assert np.abs(by_level.mean() - printed.loc["average"]).max() < 0.0101


@pytest.mark.parametrize("number", [20, 21])
def test_the_papers_first_and_last_columns_are_those_of_its_table_17(number):
    each = paper.table(number)
    table17 = paper.table(17)
    table17 = table17[table17["model"] == each["model"][0]].set_index("edit").drop(columns="model")
    each = each.set_index("category")
    assert (each["initial"] == table17.loc["original", each.index]).all()
    assert (each["full"] == table17.loc["rescaling", each.index]).all()


def test_printed_tables_become_curves():
    found = dd.printed_curve(paper.table(4)).set_index(["group", "share"])
    assert len(found) == 4 * 5
    assert found.loc[("average", 0.1), "mean"] == pytest.approx(86.30 - 83.57)
    assert found.loc[("average", 0.1), "recovered"] == pytest.approx(2.73 / 5.48)
    assert (found.xs(1.0, level="share")["recovered"] == 1).all()


def test_a_printed_table_of_another_layout_is_an_error():
    with pytest.raises(ValueError, match="level or category, initial.*got.*edit"):
        dd.printed_curve(paper.table(17))
