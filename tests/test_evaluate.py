import math

import numpy as np
import pandas as pd
import pytest

from vseam_lib.causal import groups
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.evaluate import (
    accuracy,
    answers,
    balanced_accuracy,
    summary,
    without_numbers,
    yes_rate,
)
from vseam_lib.vlm.adapter import Head

# Eight triples: of six Yes questions five are right, of two No questions none.
TABLE = pd.DataFrame(
    {
        "id": list("abcdefgh"),
        "category": ["color"] * 4 + ["animal"] * 4,
        "edit": "none",
        "gold": ["Yes"] * 6 + ["No"] * 2,
        "p": np.linspace(0.1, 0.8, 8),
        "right": [True] * 5 + [False] * 3,
        "yes": [True] * 5 + [False] + [True] * 2,
    }
)


def test_accuracy_balanced_accuracy_and_yes_rate_by_hand():
    assert accuracy(TABLE) == 62.5
    assert balanced_accuracy(TABLE) == pytest.approx(100 * (5 / 6 + 0) / 2)
    assert yes_rate(TABLE) == 87.5


def test_balanced_accuracy_of_one_kind_of_question_is_undefined():
    assert math.isnan(balanced_accuracy(TABLE[:6]))


def test_a_model_that_always_says_yes_has_balanced_accuracy_50():
    always = TABLE.assign(right=TABLE["gold"] == "Yes", yes=True)
    assert accuracy(always) == 75 and balanced_accuracy(always) == 50 and yes_rate(always) == 100


def test_the_summary_has_one_row_per_category_and_edit():
    rows = summary(TABLE).set_index("category")
    assert rows.loc["color", "accuracy"] == 100 and rows.loc["animal", "accuracy"] == 25
    assert rows.loc["animal", "yes_rate"] == 75 and rows.loc["animal", "n"] == 4
    assert rows.loc["color", "p"] == pytest.approx(0.25)
    assert summary(TABLE, ["edit"])["n"].tolist() == [8]


@pytest.fixture(scope="module")
def edits(adapter):
    L, H = adapter.n_layers, adapter.n_heads
    return {
        "none": HeadEdits.none(L, H),
        "random": HeadEdits.mask([[Head(0, 1)], [Head(2, 0)]], L, H, by="zero"),
    }


def test_answers_agree_with_the_plain_forward(
    adapter, triples, edits, plain, change_head, tmp_path
):
    triples = triples[:12][::-1]
    table = answers(adapter, triples, edits, tmp_path)
    assert list(table.columns) == [
        "id", "image_id", "category", "gold", "edit", "p", "right", "margin", "yes",
    ]  # fmt: skip
    yes, no = adapter.answer_id("Yes"), adapter.answer_id("No")

    def empty(own, others):
        return own * 0

    twins = {
        "none": {},
        "random/0": {0: change_head(adapter.n_heads, 1, empty)},
        "random/1": {2: change_head(adapter.n_heads, 0, empty)},
    }
    assert set(table["edit"]) == set(twins)
    for name, twin in twins.items():
        logits = plain(adapter, triples, twin)
        part = table[table["edit"] == name].set_index("id").loc[[t.id for t in triples]]
        gold = [adapter.answer_id(t.answer) for t in triples]
        p = logits.softmax(-1)[range(len(gold)), gold].numpy()
        assert np.abs(part["p"].to_numpy() - p).max() < 1e-10
        top = logits.argmax(-1).tolist()
        assert part["right"].tolist() == [a == g for a, g in zip(top, gold, strict=True)]
        margin = (logits[:, yes] - logits[:, no]).numpy()
        assert np.abs(part["margin"].to_numpy() - margin).max() < 1e-10
        assert part["yes"].tolist() == (logits[:, yes] > logits[:, no]).tolist()
        assert part["gold"].tolist() == [t.answer for t in triples]
        assert part["category"].tolist() == [str(t.category) for t in triples]


def test_a_second_call_computes_nothing(adapter, triples, edits, tmp_path, monkeypatch):
    first = answers(adapter, triples[:6], edits, tmp_path)

    def fail(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(groups, "record", fail)
    pd.testing.assert_frame_equal(answers(adapter, triples[:6], edits, tmp_path), first)
    other = {"none": edits["none"], "random": edits["random"][:1]}
    with pytest.raises(AssertionError, match="computed again"):
        answers(adapter, triples[:6], other, tmp_path)


def test_more_triples_compute_only_the_new_ones(adapter, triples, edits, tmp_path, monkeypatch):
    images = sorted({t.image_id for t in triples})[:3]
    few = [t for t in triples if t.image_id in images[:2]]
    more = [t for t in triples if t.image_id in images]
    answers(adapter, few, edits, tmp_path)
    seen, record = [], groups.record

    def count(adapter, group, **kwargs):
        seen.append(len(group.last))
        return record(adapter, group, **kwargs)

    monkeypatch.setattr(groups, "record", count)
    table = answers(adapter, more, edits, tmp_path)
    assert seen == [len(more) - len(few)]
    assert len(table) == 3 * len(more)


def test_draws_of_an_edit_share_its_name():
    names = pd.Series(["random/0", "random/12", "w/o negative", "none"])
    assert without_numbers(names).tolist() == ["random", "random", "w/o negative", "none"]
