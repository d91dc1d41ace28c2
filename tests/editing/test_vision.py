import numpy as np
import pytest
import torch
from PIL import Image

from vseam_lib.editing.vision import POOLS, cosine, features, similarity


@pytest.fixture(scope="module")
def pictures(triples):
    """Five distinct pictures."""
    return [Image.open(p).convert("RGB") for p in dict.fromkeys(t.image for t in triples)][:5]


@pytest.fixture(params=["adapter32", "blip32"])
def model(request):
    """Both families."""
    return request.getfixturevalue(request.param)


def seen_by(module, run, *, of=lambda args, kwargs, out: out):
    """What passed through a module while ``run()`` ran."""
    seen = []
    hook = module.register_forward_hook(
        lambda module, args, kwargs, out: seen.append(of(args, kwargs, out)), with_kwargs=True
    )
    try:
        run()
    finally:
        hook.remove()
    return seen


def tower(model):
    return model.model.get_encoder(modality="image")


def test_pooled_is_the_class_token_of_the_models_own_tower(model, pictures):
    def look():
        model.encode(pictures[0], ["Is the car red?"], ["Yes"])

    # LLaVA puts its image tokens in the place of the tower's own output afterwards.
    (token,) = seen_by(tower(model), look, of=lambda args, kwargs, out: out.pooler_output)
    assert token.shape == (1, 128)
    assert torch.allclose(features(model, pictures[:1]), token, atol=1e-5)


def test_projected_is_the_mean_of_what_the_decoder_reads(adapter32, blip32, pictures):
    for model, question in ((adapter32, "Is the car red?"), (blip32, "")):
        group = model.encode(pictures[1], [question], ["Yes"])
        start, end = group.image
        read = group.embeds[0, start:end].mean(0)
        found = features(model, pictures[:2], pool="projected")[1]
        assert torch.allclose(found, read, atol=1e-5), model.family


def test_the_instruction_reaches_the_qformer_and_nothing_else(blip32, pictures):
    question = "Is the car red?"
    group = blip32.encode(pictures[0], [question], ["Yes"])
    start, end = group.image
    found = features(blip32, pictures[:1], pool="projected", instruction=question)
    assert torch.allclose(found[0], group.embeds[0, start:end].mean(0), atol=1e-5)
    assert not torch.allclose(found, features(blip32, pictures[:1], pool="projected"), atol=1e-3)


def test_an_instruction_that_nothing_reads_is_refused(adapter32, blip32, pictures):
    for model, pool in ((adapter32, "projected"), (blip32, "pooled"), (blip32, "patches")):
        with pytest.raises(ValueError, match="does not depend on a question"):
            features(model, pictures[:1], pool=pool, instruction="Is it red?")


def test_patches_are_those_that_the_connector_reads(adapter32, blip32, pictures):
    def look():
        adapter32.encode(pictures[0], ["Is the car red?"], ["Yes"])

    (read,) = seen_by(
        adapter32.model.model.multi_modal_projector, look, of=lambda args, kwargs, out: args[0]
    )
    found = features(adapter32, pictures[:1], pool="patches")
    assert torch.allclose(found, read.mean(1), atol=1e-5)

    def look():
        blip32.encode(pictures[0], ["Is the car red?"], ["Yes"])

    (read,) = seen_by(
        blip32.model.qformer, look, of=lambda args, kwargs, out: kwargs["encoder_hidden_states"]
    )
    found = features(blip32, pictures[:1], pool="patches")
    assert torch.allclose(found, read[:, 1:].mean(1), atol=1e-5)


def test_patches_follow_the_configured_layers(adapter32, pictures, monkeypatch):
    found = []
    for layer in (-1, -2, [-2, -1]):
        monkeypatch.setattr(adapter32.model.config, "vision_feature_layer", layer)
        found.append(features(adapter32, pictures[:1], pool="patches"))
    last, second, both = found
    assert not torch.allclose(last, second, atol=1e-3)
    assert torch.equal(both, torch.cat([second, last], dim=-1))


@pytest.mark.parametrize("pool", POOLS)
def test_features_do_not_depend_on_their_batch(model, pictures, pool):
    alone = torch.cat([features(model, [p], pool=pool) for p in pictures])
    assert alone.dtype == torch.float32 and not alone.requires_grad
    for batch in (2, 16):
        together = features(model, pictures, pool=pool, batch=batch)
        assert torch.allclose(together, alone, atol=1e-4)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


def test_equal_pictures_are_encoded_once_and_keep_their_places(model, pictures, tmp_path):
    a, b = pictures[:2]
    path = tmp_path / "a.png"
    a.save(path)
    found = []
    outs = seen_by(tower(model), lambda: found.append(features(model, [a, b, path, a])))
    assert sum(len(out.pooler_output) for out in outs) == 2
    first, second, third, fourth = found[0]
    assert torch.equal(first, third) and torch.equal(first, fourth)
    assert not torch.equal(first, second)


def test_a_picture_is_similar_to_itself_and_less_to_another(model, pictures):
    found = similarity(model, pictures, [pictures[0], *pictures[2:], pictures[1]])
    assert found.shape == (5,) and float(found[0]) == pytest.approx(1, abs=1e-12)
    assert (found[1:] < 1 - 1e-6).all()


def test_cosine_is_the_angle_of_rows():
    a = torch.tensor([[1.0, 0], [3, 4], [1, 1]])
    b = torch.tensor([[0.0, 2], [6, 8], [-1, -1]])
    assert cosine(a, b).tolist() == pytest.approx([0, 1, -1])


def test_wrong_input_is_refused(adapter32, pictures):
    with pytest.raises(ValueError, match="pool in pooled, projected, patches, got 'cls'"):
        features(adapter32, pictures, pool="cls")
    with pytest.raises(ValueError, match="at least one picture"):
        features(adapter32, [])
    with pytest.raises(ValueError, match="batch of at least 1"):
        features(adapter32, pictures, batch=0)
    with pytest.raises(ValueError, match="got 4 for 5"):
        similarity(adapter32, pictures, pictures[1:])
    with pytest.raises(ValueError, match="of one shape"):
        cosine(torch.ones(2, 3), torch.ones(3, 3))
    for bad in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="other than zero"):
            cosine(torch.full((1, 3), bad), torch.ones(1, 3))
