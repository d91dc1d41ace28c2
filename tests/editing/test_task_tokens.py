import copy

import pytest
import torch
from transformers import CLIPTokenizer

from vseam_lib.editing.task_tokens import (
    TASK_TOKENS,
    VECTORS,
    Blend,
    Prompt,
    PromptEncoder,
    expand_task_tokens,
    find_task_tokens,
    task_prompts,
)

POOR = "worst quality, low quality, normal quality, bad quality, blurry"


@pytest.fixture(scope="module")
def encoder(merged):
    return merged._encoder


def spelt(blend):
    return [" ".join(filter(None, prompt)) for prompt in blend]


@pytest.mark.parametrize(
    ("task", "wanted", "unwanted"),
    [
        ("text", ["a car P_obj"] * 2, [f"bad, {POOR} P_obj"] * 2),
        ("removal", ["empty scene blur a car P_ctxt"] * 2, ["bad P_obj"] * 2),
        (
            "shape",
            ["a car P_shape", "a car P_ctxt"],
            [f"bad, {POOR} P_shape", f"bad, {POOR} P_ctxt"],
        ),
    ],
)
def test_version_1_says_what_the_authors_program_says(task, wanted, unwanted):
    told = task_prompts(task, " a car ", "bad")
    assert spelt(told.wanted) == wanted
    assert spelt(told.unwanted) == unwanted
    assert told.base is None


@pytest.mark.parametrize(
    ("task", "wanted", "unwanted", "base"),
    [
        ("text", ["P_obj"] * 2, ["P_obj"] * 2, "a car"),
        ("removal", ["P_ctxt"] * 2, ["P_obj"] * 2, "a car empty scene blur"),
        ("shape", ["P_shape", "P_ctxt"], ["P_shape", "P_ctxt"], "a car"),
    ],
)
def test_version_2_tells_brushnet_the_task_and_the_base_model_the_text(
    task, wanted, unwanted, base
):
    told = task_prompts(task, "a car", "bad", version=2)
    assert spelt(told.wanted) == wanted
    assert spelt(told.unwanted) == unwanted
    assert (told.base, told.base_unwanted) == (Prompt(base), Prompt("bad"))


def test_removal_needs_no_text():
    assert spelt(task_prompts("removal", "").wanted)[0] == "empty scene blur P_ctxt"
    with pytest.raises(ValueError, match="says what to paint, got an empty one"):
        task_prompts("text", "  ")


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="text, removal, shape, got 'outpainting'"):
        task_prompts("outpainting", "a car")


@pytest.mark.parametrize("text", ["a car P_obj", "a car p_ctxt_3"])
def test_a_prompt_with_a_task_token_of_its_own_is_refused(text):
    with pytest.raises(ValueError, match="expected no task token"):
        task_prompts("text", text)
    with pytest.raises(ValueError, match="negative"):
        task_prompts("text", "a car", text)


def test_a_prompt_that_is_no_string_is_refused():
    with pytest.raises(TypeError, match="expected a string, got NoneType"):
        task_prompts("text", None)


def test_the_ids_are_those_of_the_ten_names_spelt_out(encoder):
    text = " ".join(["a red car", *(f"P_obj_{k}" for k in range(VECTORS))])
    expected = encoder.tokenizer(text, padding="max_length").input_ids
    assert encoder.ids(Prompt("a red car", "P_obj")) == expected


def test_a_lower_casing_tokenizer_hides_the_name_but_not_the_task_token(encoder):
    """The name itself falls into letters, which is how the task is lost without an error."""
    read = encoder.tokenizer("a car P_obj").input_ids
    assert not set(read) & set(encoder.tokens["P_obj"])
    ids = encoder.ids(Prompt("a car", "P_obj"))
    end = ids.index(encoder.tokenizer.eos_token_id)
    assert ids[end - VECTORS : end] == encoder.tokens["P_obj"]


@pytest.mark.parametrize("token", TASK_TOKENS)
def test_each_of_the_ten_vectors_matters(encoder, token):
    model = copy.deepcopy(encoder.model)
    changed = PromptEncoder(encoder.tokenizer, model, encoder.tokens)
    before = encoder.embed(Prompt("a car", token))
    table = model.embeddings.token_embedding.weight
    for k in encoder.tokens[token]:
        kept = table[k].clone()
        table[k] *= -1
        changed.embed.cache_clear()
        assert (changed.embed(Prompt("a car", token)) - before).abs().max() > 1e-3
        table[k] = kept
    changed.embed.cache_clear()
    assert torch.equal(changed.embed(Prompt("a car", token)), before)


def test_names_that_were_stored_in_lower_case_are_found(layouts):
    vocab, merges = layouts.vocabulary()
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges)
    tokenizer.add_tokens([f"{t}_{k}".lower() for t in TASK_TOKENS for k in range(VECTORS)])
    found = find_task_tokens(tokenizer, len(tokenizer))
    assert found["P_obj"] == list(range(len(vocab) + 20, len(vocab) + 30))


def test_a_tokenizer_without_the_tokens_is_refused(layouts):
    vocab, merges = layouts.vocabulary()
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges)
    tokenizer.add_tokens([f"{t}_{k}" for t in TASK_TOKENS for k in range(VECTORS - 1)])
    with pytest.raises(ValueError, match="3 are missing, first P_ctxt_9"):
        find_task_tokens(tokenizer, 1000)


def test_a_text_encoder_without_their_vectors_is_refused(encoder):
    rows = encoder.model.config.vocab_size
    with pytest.raises(ValueError, match=f"it has {rows - 1}"):
        find_task_tokens(encoder.tokenizer, rows - 1)


def test_a_prompt_may_fill_the_limit_but_not_pass_it(encoder):
    fits = "car " * (encoder.limit - 2 - VECTORS)
    assert len(encoder.ids(Prompt(fits, "P_obj"))) == encoder.limit
    with pytest.raises(ValueError, match="at most 77 tokens, got 78 .66 of the text, 10 of the"):
        encoder.ids(Prompt(fits + "car", "P_obj"))
    encoder.ids(Prompt(fits + "car " * VECTORS))


@pytest.mark.parametrize("text", ["a čar", "a car <|endoftext|>"])
def test_text_that_the_tokenizer_cannot_spell_is_refused(encoder, text):
    with pytest.raises(ValueError, match="known tokens"):
        encoder.ids(Prompt(text))


def test_the_fitting_degree_mixes_two_embeddings(encoder):
    first, second = Prompt("a car", "P_shape"), Prompt("a car", "P_ctxt")
    a, b = encoder.embed(first), encoder.embed(second)
    assert (a - b).abs().max() > 1e-2
    assert torch.equal(encoder.mix(Blend(first, second), 1.0), a)
    assert torch.equal(encoder.mix(Blend(first, second), 0.0), b)
    torch.testing.assert_close(encoder.mix(Blend(first, second), 0.3), 0.3 * a + 0.7 * b)


def test_a_prompt_is_embedded_once(encoder):
    runs = []
    hook = encoder.model.register_forward_hook(lambda *_: runs.append(1))
    for _ in range(3):
        encoder.embed(Prompt("a car that no other test asks for", "P_obj"))
    hook.remove()
    assert len(runs) == 1


@pytest.fixture
def stored(layouts):
    state = {"text_model.embeddings.token_embedding.weight": torch.randn(50, layouts.WIDTH)}
    state["text_model.final_layer_norm.weight"] = torch.ones(layouts.WIDTH)
    return layouts.apart(state, layouts.new_vectors())


def test_vectors_that_are_stored_apart_go_behind_the_vocabulary(stored):
    state, ids = expand_task_tokens(stored)
    table = "text_model.embeddings.token_embedding."
    weight = state.pop(f"{table}weight")
    assert list(state) == ["text_model.final_layer_norm.weight"]
    assert torch.equal(weight[:50], stored[f"{table}wrapped.weight"])
    for token in TASK_TOKENS:
        assert torch.equal(weight[ids[token]], stored[f"{table}trainable_embeddings.{token}"])


def test_a_missing_task_token_is_named(stored):
    del stored["text_model.embeddings.token_embedding.trainable_embeddings.P_shape"]
    with pytest.raises(ValueError, match="expected the token embeddings .*P_shape"):
        expand_task_tokens(stored)


def test_nine_vectors_are_refused(stored):
    name = "text_model.embeddings.token_embedding.trainable_embeddings.P_shape"
    stored[name] = stored[name][:9]
    with pytest.raises(ValueError, match="P_shape: expected 10 vectors of width 16, got .* .9, 16"):
        expand_task_tokens(stored)
