import pytest
import torch
from transformers import LlamaConfig

from vseam_lib.triples import Category
from vseam_lib.vlm.load import load, shipped, shipped_metrics, weights_digest


@pytest.fixture(scope="module")
def saved(adapter32, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    adapter32.model.save_pretrained(folder)
    adapter32.processor.save_pretrained(folder)
    return folder


def test_a_saved_model_comes_back_whole(saved, adapter32):
    loaded = load(str(saved))
    assert loaded.family == "llava" and loaded.prompt == "paper"
    assert not loaded.model.training
    assert not any(p.requires_grad for p in loaded.model.parameters())
    before, after = adapter32.model.state_dict(), loaded.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert loaded.text("Is it?") == adapter32.text("Is it?")
    assert loaded.answer_id("No") == adapter32.answer_id("No")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_the_dtype_is_the_one_asked_for(saved, dtype):
    assert load(str(saved), dtype=dtype).model.dtype == getattr(torch, dtype)


def test_an_unknown_dtype_names_the_known_ones(saved):
    with pytest.raises(ValueError, match="float32, bfloat16, float64, got 'half'"):
        load(str(saved), dtype="half")


def test_an_unknown_prompt_names_the_known_ones(saved):
    with pytest.raises(ValueError, match="llava/paper, llava/as_released"):
        load(str(saved), prompt="terse")


@pytest.mark.parametrize("name", ["tiny-lava", "./nowhere", "/no/such/model"])
def test_an_unknown_model_is_an_error_that_lists_what_is_accepted(name):
    with pytest.raises(FileNotFoundError, match=f"no model '{name}'; expected a shipped model"):
        load(name)


def test_a_directory_without_weights_is_an_error_with_the_remedy(adapter32, tmp_path):
    adapter32.model.config.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="safetensors.*make weights"):
        load(str(tmp_path))


def test_a_directory_without_configuration_is_an_error(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="expected config.json"):
        load(str(tmp_path))


def test_a_family_without_an_adapter_is_an_error_that_names_the_known_ones(tmp_path):
    LlamaConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        ValueError, match="no adapter for model type 'llama'; expected one of llava"
    ):
        load(str(tmp_path))


@pytest.mark.parametrize("changed", ["model.safetensors", "tokenizer.json"])
def test_the_revision_is_a_digest_of_all_that_changes_an_answer(
    saved, adapter32, tmp_path, changed
):
    assert load(str(saved)).revision == weights_digest(saved)
    adapter32.model.save_pretrained(tmp_path)
    adapter32.processor.save_pretrained(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    assert weights_digest(tmp_path) == weights_digest(saved)
    path = tmp_path / changed
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert weights_digest(tmp_path) != weights_digest(saved)


def test_the_revision_counts_files_in_folders_below(blip32, tmp_path):
    """The Q-Former's tokenizer lies in a folder of its own."""
    blip32.model.save_pretrained(tmp_path)
    blip32.processor.save_pretrained(tmp_path)
    before = weights_digest(tmp_path)
    path = tmp_path / "qformer_tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace("dog", "gnu"))
    assert weights_digest(tmp_path) != before
    path.rename(tmp_path / "qformer_tokenizer" / "other.json")
    assert weights_digest(tmp_path) != before


def test_two_families_are_shipped():
    assert {load(name).family for name in shipped()} == {"llava", "instructblip"}


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_model_is_right_and_wrong_on_held_out_scenes_and_guesses_without_a_picture(name):
    heldout = shipped_metrics(name)["heldout"]
    mean = heldout.pop("mean")
    assert list(heldout) == [str(c) for c in Category]
    assert mean["accuracy"] >= 75
    for category, row in heldout.items():
        assert row["n"] >= 100 and 50 < row["accuracy"] < 100, category
        for without in ("blank", "shuffled"):
            assert abs(row[without] - 50) <= 10, (category, without)


def test_a_model_that_is_not_shipped_has_no_metrics(saved):
    assert shipped_metrics(str(saved)) is None and shipped_metrics("llava-hf/none") is None
