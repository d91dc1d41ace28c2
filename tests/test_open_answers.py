from dataclasses import replace

import pytest
import torch

from vseam_lib import open_answers
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.open_answers import (
    ENDED,
    decode,
    exact_match,
    normalise,
    open_ended,
    written,
)
from vseam_lib.vlm.adapter import Head
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.prompts import OPEN


def edits_of(adapter):
    """None, and two variants: a head silenced, a head amplified with another masked."""
    shape = (adapter.n_layers, adapter.n_heads)
    mixed = HeadEdits.cat(
        [
            HeadEdits.mask([[Head(0, 1)]], *shape, by="zero"),
            HeadEdits.rescale([{Head(1, 2): 2.0, Head(2, 0): 0.25}], *shape),
        ]
    )
    return {"none": HeadEdits.none(*shape), "edited": mixed}


def generated(adapter, triple, tokens, edit=None):
    """The slow twin: the genuine model's own greedy generation, one question at a time."""
    batch = adapter.processor(
        images=[open_image(triple.image)],
        text=[adapter.text(triple.question)],
        return_tensors="pt",
    )
    batch["pixel_values"] = batch["pixel_values"].to(adapter.model.dtype)
    hooks = []
    if edit is not None:
        for k, layer in enumerate(adapter.layers):

            def change(module, args, k=k):
                return (edit.apply(k, args[0]),)

            hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(change))
    try:
        out = adapter.model.generate(**batch, max_new_tokens=tokens, do_sample=False)
    finally:
        for hook in hooks:
            hook.remove()
    return out[0, -tokens:].tolist()


@pytest.mark.parametrize("name", ["adapter", "blip"])
def test_greedy_answers_are_those_of_the_models_own_generation(request, name, triples, group_of):
    adapter = request.getfixturevalue(name)
    open_adapter = open_ended(adapter)
    variants = HeadEdits.cat(list(edits_of(adapter).values()))
    for asked, triple in ((adapter, triples[0]), (open_adapter, triples[7])):
        found, _ = decode(asked, group_of(asked, [triple]), variants, tokens=3)
        for v in range(len(variants)):
            assert found[v, 0].tolist() == generated(asked, triple, 3, variants[v : v + 1])


def test_questions_about_one_image_are_continued_together(adapter, one_image, group_of):
    variants = HeadEdits.cat(list(edits_of(adapter).values()))
    found, first = decode(adapter, group_of(adapter, one_image), variants, tokens=3)
    assert found.shape == (3, len(one_image), 3) and len(one_image) > 2
    for q, triple in enumerate(one_image):
        alone, logits = decode(adapter, group_of(adapter, [triple]), variants, tokens=3)
        assert torch.equal(found[:, q], alone[:, 0])
        torch.testing.assert_close(first[:, q], logits[:, 0])


def test_an_answer_ends_with_the_end_of_sequence(adapter, one_image, group_of, monkeypatch):
    none = edits_of(adapter)["none"]
    group = group_of(adapter, one_image[:1])
    free, _ = decode(adapter, group, none, tokens=3)
    ends = list(dict.fromkeys(free[0, 0].tolist()))
    at = free[0, 0].tolist().index(ends[-1])
    monkeypatch.setattr(adapter.model.generation_config, "eos_token_id", [ends[-1]])
    found, _ = decode(adapter, group, none, tokens=3)
    assert found[0, 0, :at].tolist() == free[0, 0, :at].tolist()
    assert found[0, 0, at:].tolist() == [ENDED] * (3 - at)


def test_written_answers_are_the_most_probable_tokens(
    adapter, triples, plain, change_head, tmp_path
):
    triples = triples[:8][::-1]
    table = written(adapter, triples, edits_of(adapter), tmp_path, margin=True)
    assert list(table.columns) == [
        "id", "image_id", "category", "gold", "edit", "said", "margin",
    ]  # fmt: skip
    silenced = {0: change_head(adapter.n_heads, 1, lambda own, others: own * 0)}
    yes, no = adapter.answer_id("Yes"), adapter.answer_id("No")
    for edit, twin in (("none", {}), ("edited/0", silenced)):
        logits = plain(adapter, triples, twin)
        part = table[table["edit"] == edit].set_index("id").loc[[t.id for t in triples]]
        words = [adapter.processor.tokenizer.decode(i).strip() for i in logits.argmax(-1)]
        assert part["said"].tolist() == words
        margin = (logits[:, yes] - logits[:, no]).tolist()
        assert part["margin"].tolist() == pytest.approx(margin, abs=1e-9)
    assert set(table["edit"]) == {"none", "edited/0", "edited/1"}


def test_a_second_call_computes_nothing(adapter, triples, tmp_path, monkeypatch):
    edits = edits_of(adapter)
    first = written(adapter, triples[:4], edits, tmp_path, tokens=2)

    def fail(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(open_answers, "record", fail)
    assert written(adapter, triples[:4], edits, tmp_path, tokens=2).equals(first)
    for other in ({"tokens": 1}, {"tokens": 2, "margin": True}):
        with pytest.raises(AssertionError, match="computed again"):
            written(adapter, triples[:4], edits, tmp_path, **other)
    with pytest.raises(AssertionError, match="computed again"):
        written(open_ended(adapter), triples[:4], edits, tmp_path, tokens=2)


def test_a_right_answer_may_be_no_word_of_the_model(adapter, triples, tmp_path):
    foreign = replace(triples[0])
    object.__setattr__(foreign, "answer", "snowboard")
    table = written(open_ended(adapter), [foreign], edits_of(adapter), tmp_path)
    assert table["gold"].tolist() == ["snowboard"] * 3


def test_fewer_than_one_token_is_refused(adapter, triples, tmp_path):
    with pytest.raises(ValueError, match="at least 1 token"):
        written(adapter, triples[:1], edits_of(adapter), tmp_path, tokens=0)


@pytest.mark.parametrize("name", ["adapter", "blip"])
def test_open_questions_are_asked_with_the_prompt_of_table_8(request, name):
    adapter = request.getfixturevalue(name)
    asked = open_ended(replace(adapter, prompt="as_released"))
    image = adapter.processor.image_token
    wanted = OPEN[adapter.family]["paper"].format(image=image, question="what is it")
    assert asked.text("what is it") == wanted
    assert asked.family == adapter.family and isinstance(asked, type(adapter))
    assert "Yes or No" in adapter.text("Is it?") or "yes or no" in adapter.text("Is it?")


@pytest.mark.parametrize(
    "text, known",
    [
        ("A dog.", "dog"),
        ("the Red", "red"),
        ("2", "two"),
        ("10 dogs", "ten dogs"),
        ("11", "11"),
        ("  to the left of ", "to left of"),
        ("", ""),
        ("T-shirt", "t-shirt"),
    ],
)
def test_how_answers_are_normalised(text, known):
    assert normalise(text) == known


def test_an_exact_match_is_of_normalised_answers():
    assert exact_match(["A Dog.", "2", "dogs", ""], ["dog", "two", "dog", "dog"]) == [
        True, True, False, False,
    ]  # fmt: skip
    with pytest.raises(ValueError):
        exact_match(["a"], [])
