import pytest

from vseam_lib.triples import Category
from vseam_lib.vlm.spans import parts, question_tokens, roles, spans


@pytest.mark.parametrize(
    "category, question, words",
    [
        ("color", "Is the fire truck dark red?", ["fire truck", "dark red"]),
        ("color", "Are the pants purple?", ["pants", "purple"]),
        ("material", "Is the trash can made of metal?", ["trash can", "metal"]),
        ("animal", "Is there a dog in this picture?", ["dog"]),
        ("vehicle", "Is there an old bus in this picture?", ["old bus"]),
        ("spatial", "Is the cat to the left of the sofa?", ["cat", "to the left of", "sofa"]),
        ("spatial", "Is the people in front of the building?", ["people", "in front of", "building"]),  # noqa: E501
        ("action", "Is the man riding the horse?", ["man", "riding", "horse"]),
        ("action", "Is the cat sitting on top of the car?", ["cat", "sitting on top of", "car"]),
        ("action", "Is the man holding onto the rope?", ["man", "holding onto", "rope"]),
    ],
)  # fmt: skip
def test_parts_of_a_question_are_found_by_its_form(category, question, words):
    found = parts(question, Category(category))
    assert [question[a:b] for a, b in found.values()] == words
    assert list(found) == ["object", "attribute", "other object"][: len(words)]


def test_a_question_of_another_form_is_an_error():
    with pytest.raises(ValueError, match="the material form of Table 9, got 'Is the fence"):
        parts("Is the fence wooden or metallic?", Category.MATERIAL)


@pytest.mark.parametrize("name", ["adapter", "blip"])
def test_every_token_after_the_image_has_one_role(request, name, triples):
    adapter = request.getfixturevalue(name)
    for triple in {t.category: t for t in triples}.values():
        group = adapter.encode(triple.image, [triple.question], [triple.answer])
        found = roles(adapter, group, triple.question, triple.category)
        at = sorted(i for positions in found.values() for i in positions)
        assert at == spans(adapter, group)["question"]
        assert found["last token"] == [len(group.ids) - 1] == group.last.tolist()
        tokens = question_tokens(adapter, group)
        for role, (a, b) in parts(triple.question, triple.category).items():
            words = " ".join(tokens[i - group.image[1]] for i in found[role])
            assert words == triple.question[a:b]


def test_the_group_of_another_question_is_an_error(adapter, triples):
    one, two = triples[0], next(t for t in triples if t.question != triples[0].question)
    group = adapter.encode(one.image, [one.question], [one.answer])
    with pytest.raises(ValueError, match="alone, got other tokens"):
        roles(adapter, group, two.question, two.category)
    both = adapter.encode(one.image, [one.question] * 2, [one.answer] * 2)
    with pytest.raises(ValueError, match="alone, got other tokens"):
        roles(adapter, both, one.question, one.category)


def test_a_tokenizer_without_offsets_is_an_error(adapter, triples, monkeypatch):
    triple = triples[0]
    group = adapter.encode(triple.image, [triple.question], [triple.answer])
    monkeypatch.setattr(type(adapter.processor.tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match="expected a fast tokenizer"):
        roles(adapter, group, triple.question, triple.category)
