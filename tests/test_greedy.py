"""Greedy choice of heads, against one plain forward per candidate."""

import pytest

from vseam_lib.causal.ranking import HeadSets
from vseam_lib.greedy import candidates, forward_selection
from vseam_lib.vlm.adapter import Head

L, H = 3, 4
POOL = {Head(0, 1): 2.0, Head(1, 2): 0.0, Head(2, 0): 0.0, Head(2, 3): 2.0}


def twin_p(adapter, triples, plain, change_head, factors):
    """Mean probability of the right answer with heads scaled, in plain forwards."""

    def layer(index):
        def edit(z):
            for head, factor in factors.items():
                if head.layer == index:
                    z = change_head(H, head.head, lambda own, _, f=factor: own * f)(z)
            return z

        return edit

    logits = plain(adapter, triples, {i: layer(i) for i in {h.layer for h in factors}})
    gold = [adapter.answer_id(t.answer) for t in triples]
    return float(logits.softmax(-1)[range(len(gold)), gold].mean())


def test_the_choice_is_that_of_trying_every_head_by_hand(
    adapter, triples, plain, change_head, tmp_path
):
    triples = triples[:4]
    found = forward_selection(adapter, triples, POOL, tmp_path, rounds=3)
    chosen, best = {}, twin_p(adapter, triples, plain, change_head, {})
    path = [("", best)]
    for _ in range(3):
        tried = {
            h: twin_p(adapter, triples, plain, change_head, chosen | {h: f})
            for h, f in POOL.items()
            if h not in chosen
        }
        head = max(tried, key=tried.get)
        if tried[head] <= best:
            break
        chosen[head], best = POOL[head], tried[head]
        path.append((str(head), best))
    assert found.factors == chosen and list(found.factors) == list(chosen)
    assert list(found.path["head"]) == [head for head, _ in path]
    assert found.path["p"].tolist() == pytest.approx([p for _, p in path], abs=1e-10)
    assert len(chosen) >= 1, "some head helps"
    edit = found.edits(L, H)
    assert {h: float(edit.scale[0, h.layer, h.head]) for h in chosen} == chosen
    assert int((edit.scale != 1).sum()) == len(chosen)


def test_rounds_bound_the_choice(adapter, triples, tmp_path):
    one = forward_selection(adapter, triples[:3], POOL, tmp_path, rounds=1)
    assert len(one.factors) <= 1 and list(one.path["round"])[0] == 0


def test_a_pool_in_which_no_head_helps_leaves_the_model_alone(adapter, triples, tmp_path):
    nothing = dict.fromkeys(POOL, 1.0)  # a factor of 1 changes nothing
    found = forward_selection(adapter, triples[:3], nothing, tmp_path, rounds=3)
    assert found.factors == {} and found.path["round"].tolist() == [0]
    assert bool((found.edits(L, H).scale == 1).all())


@pytest.mark.parametrize(
    "pool, n, rounds, message",
    [
        ({}, 2, 3, "got 0 heads, 2 questions and 3 rounds.*overlap='disjoint'"),
        (POOL, 0, 3, "got 4 heads, 0 questions"),
        (POOL, 2, 0, "0 rounds"),
    ],
    ids=["no heads", "no questions", "no rounds"],
)
def test_nothing_to_search_is_an_error(adapter, triples, pool, n, rounds, message):
    with pytest.raises(ValueError, match=message):
        forward_selection(adapter, triples[:n], pool, "unused", rounds=rounds)


def test_candidates_are_amplified_or_silenced_but_not_both():
    a, b, c = Head(0, 0), Head(1, 1), Head(2, 2)
    assert candidates(HeadSets({a: 0.5, b: 0.1}, {c: 0.2, b: 0.3})) == {a: 2.0, c: 0.0}
