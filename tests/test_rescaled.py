"""Heads chosen per category and their edits, against plain loops and plain forwards."""

import numpy as np
import pytest

from vseam_lib import rescaled
from vseam_lib.causal import groups
from vseam_lib.causal import heads as hd
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.ranking import HeadSets
from vseam_lib.changes import per_question
from vseam_lib.evaluate import answers
from vseam_lib.modulate import random_heads, table17_edits
from vseam_lib.triples import Category, by_category
from vseam_lib.vlm.adapter import Head

L, H = 3, 4
SETS = HeadSets(
    positive={Head(0, 0): 0.5, Head(1, 1): 0.3, Head(2, 3): 0.1},
    negative={Head(2, 2): 0.2, Head(0, 3): 0.1},
)
ONE_EACH = HeadSets({Head(0, 0): 0.5}, {Head(2, 2): 0.2})  # Eq. 9 divides by 0
COLOR, SPATIAL = Category.COLOR, Category.SPATIAL


@pytest.fixture(scope="module")
def two(triples):
    """A few questions of two categories."""
    by = by_category(triples)
    return by[COLOR][:4] + by[SPATIAL][:4]


@pytest.fixture(scope="module")
def effects(two):
    """Invented effects: both categories have right and wrong answers."""
    rng = np.random.default_rng(1)
    right = np.array([True, True, False, False] * 2)
    return hd.Effects([t.id for t in two], rng.normal(size=(8, L, H)), np.full(8, 0.5), right)


def stands_in(monkeypatch, effects):
    monkeypatch.setattr(hd, "sweep", lambda *args, **kwargs: effects)


def test_each_category_chooses_by_its_own_questions(two, effects, monkeypatch, adapter):
    stands_in(monkeypatch, effects)
    chosen = rescaled.choose(adapter, two, "unused", k=3, overlap="both")
    assert list(chosen.sets) == [COLOR, SPATIAL] and not chosen.left_out
    assert chosen.effects is effects
    for at, category in ((0, COLOR), (4, SPATIAL)):
        score = {}
        for layer in range(L):
            for head in range(H):
                a, b, c, d = effects.delta[at : at + 4, layer, head]
                score[Head(layer, head)] = (-(a + b) / 2, (c + d) / 2)
        positive = sorted(score, key=lambda h: -score[h][0])[:3]
        negative = sorted(score, key=lambda h: -score[h][1])[:3]
        found = chosen.sets[category]
        assert list(found.positive) == positive and list(found.negative) == negative
        assert found.positive[positive[0]] == pytest.approx(abs(score[positive[0]][0]))


def test_a_category_without_wrong_answers_is_left_out_with_the_reason(
    two, effects, monkeypatch, adapter
):
    right = np.array([True] * 4 + [True, False] * 2)
    stands_in(monkeypatch, hd.Effects(effects.ids, effects.delta, effects.p, right))
    chosen = rescaled.choose(adapter, two, "unused", k=2)
    assert list(chosen.sets) == [SPATIAL]
    assert chosen.left_out == [("color", "no wrong answers among 4")]
    stands_in(monkeypatch, hd.Effects(effects.ids, effects.delta, effects.p, ~right))
    assert rescaled.choose(adapter, two, "unused", k=2).left_out == [
        ("color", "no right answers among 4")
    ]


def test_no_category_that_chooses_heads_is_an_error(two, effects, monkeypatch, adapter):
    right = np.ones(8, bool)
    stands_in(monkeypatch, hd.Effects(effects.ids, effects.delta, effects.p, right))
    with pytest.raises(ValueError, match="no category chooses heads.*color.*spatial.*more questio"):
        rescaled.choose(adapter, two, "unused")


def test_k_above_the_number_of_heads_is_an_error(two, effects, monkeypatch, adapter):
    stands_in(monkeypatch, effects)
    with pytest.raises(ValueError, match="between 1 and the model's 12 heads.*got 13"):
        rescaled.choose(adapter, two, "unused", k=13)
    with pytest.raises(ValueError, match="12 heads.*got 13"):
        rescaled.answer_edits(adapter, {COLOR: SETS}, two, "unused", k=13)


def test_answers_agree_with_the_plain_forward(adapter, two, plain, change_head, tmp_path):
    table = rescaled.answer_edits(adapter, {COLOR: SETS}, two, tmp_path, k=2, draws=1, seed=5)
    own = [t for t in two if t.category is COLOR]
    assert set(table["id"]) == {t.id for t in own}, "the other category has no heads"
    (random,) = random_heads(2, 1, L, H, seed=5)
    factors = {
        "original": {},
        "w/o negative": dict.fromkeys(SETS.negative, 0.0),
        "w/o positive": dict.fromkeys(SETS.positive, 0.0),
        "rescaling": {Head(0, 0): 2.0, Head(1, 1): 1.5, Head(2, 2): 0.0},  # Eq. 9 and 10 by hand
        "random remove": dict.fromkeys(random, 0.0),
    }
    assert set(table["edit"]) == set(factors)

    def scaled(wanted):
        def edit(z):
            for head, factor in wanted.items():
                z = change_head(H, head.head, lambda own, _, f=factor: own * f)(z)
            return z

        return edit

    for name, wanted in factors.items():
        layers = {h.layer for h in wanted}
        twin = {i: scaled({h: f for h, f in wanted.items() if h.layer == i}) for i in layers}
        logits = plain(adapter, own, twin)
        gold = [adapter.answer_id(t.answer) for t in own]
        p = logits.softmax(-1)[range(len(gold)), gold].numpy()
        found = table[table["edit"] == name].set_index("id").loc[[t.id for t in own]]
        assert np.abs(found["p"].to_numpy() - p).max() < 1e-10, name


def test_results_are_stored_where_the_single_calls_store_them(adapter, two, tmp_path, monkeypatch):
    sets = {COLOR: SETS, SPATIAL: SETS}
    at_random = HeadEdits.mask(random_heads(2, 3, L, H, seed=0), L, H, by="zero")
    answers(adapter, two, {"random remove": at_random}, tmp_path)
    for own in by_category(two).values():
        edits = {"original": HeadEdits.none(L, H)} | table17_edits(SETS, L, H)
        answers(adapter, own, edits, tmp_path)

    def fail(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(groups, "record", fail)
    table = rescaled.answer_edits(adapter, sets, two, tmp_path, k=2, draws=3)
    assert len(table) == len(two) * (4 + 3)
    assert {"random remove/0", "random remove/1", "random remove/2"} < set(table["edit"])


def test_a_category_without_factors_keeps_its_other_rows(adapter, two, tmp_path):
    sets = {COLOR: ONE_EACH, SPATIAL: SETS}
    ((category, why),) = rescaled.without_factors(sets)
    assert category == "color" and "c_max - c_min" in why and "positive heads" in why
    table = rescaled.answer_edits(adapter, sets, two, tmp_path, k=2, draws=0)
    assert set(table[table["category"] == "color"]["edit"]) == {
        "original", "w/o negative", "w/o positive",
    }  # fmt: skip
    assert "rescaling" in set(table[table["category"] == "spatial"]["edit"])
    assert not rescaled.without_factors(sets, "ratio")


def test_unknown_switches_are_errors_and_not_missing_rows(adapter, two):
    with pytest.raises(ValueError, match="minmax.*got 'softmax'"):
        rescaled.without_factors({COLOR: SETS}, "softmax")
    with pytest.raises(ValueError, match="zero.*mean.*got 'noise'"):
        rescaled.answer_edits(adapter, {COLOR: SETS}, two, "unused", k=2, removal="noise")


def test_questions_of_no_chosen_category_are_an_error(adapter, two):
    with pytest.raises(ValueError, match="questions of animal.*got 8 questions"):
        rescaled.answer_edits(adapter, {Category.ANIMAL: SETS}, two, "unused", k=2)


def test_transfer_to_the_own_category_is_rescaling(adapter, two, tmp_path):
    other = HeadSets(SETS.negative, SETS.positive)
    sets = {COLOR: SETS, SPATIAL: other}
    moved = rescaled.transfer(adapter, sets, two, tmp_path)
    assert len(moved) == 2 * len(two)
    assert set(zip(moved["heads_of"], moved["category"], strict=True)) == {
        (a, b) for a in ("color", "spatial") for b in ("color", "spatial")
    }
    table = rescaled.answer_edits(adapter, sets, two, tmp_path, k=2, draws=0)
    own = per_question(table)
    own = own[own["edit"] == "rescaling"].set_index("id")["probability"]
    diagonal = moved[moved["heads_of"] == moved["category"]].set_index("id")["probability"]
    assert np.abs(diagonal - own).max() < 1e-10 and own.abs().max() > 1e-4
    cross = moved[moved["heads_of"] != moved["category"]].set_index("id")["probability"]
    assert (cross - own).abs().max() > 1e-4


def test_heads_without_factors_do_not_transfer(adapter, two, tmp_path):
    moved = rescaled.transfer(adapter, {COLOR: ONE_EACH, SPATIAL: SETS}, two[:2], tmp_path)
    assert set(moved["heads_of"]) == {"spatial"}
    with pytest.raises(ValueError, match="lam='minmax'; use K >= 2"):
        rescaled.transfer(adapter, {COLOR: ONE_EACH}, two, tmp_path)
