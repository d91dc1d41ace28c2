import io

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInpaintPipeline
from PIL import Image

from vseam_lib.editing.powerpaint import load_inpainter
from vseam_lib.editing.powerpaint_items import Item, Sampling, by_size

LAYOUTS = ("merged", "overlay", "older", "v2")
POOR = "worst quality, low quality, normal quality, bad quality, blurry"
QUICK = {"steps": 2}


def array(image):
    return np.asarray(image, int)


def only(job, k):
    return {name: [values[k]] for name, values in job.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_edits_inside_the_mask_and_nowhere_else(inpainters, job, layout):
    edited = inpainters[layout].edit(**job, **QUICK)
    for before, mask, after in zip(job["images"], job["masks"], edited, strict=True):
        assert np.array_equal(array(after)[~mask], array(before)[~mask])
        assert np.abs(array(after) - array(before))[mask].mean() > 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_follows_prompt_task_negative_and_seed(inpainters, job, layout):
    one = only(job, 0)
    paint = inpainters[layout].edit

    def differs(**changes):
        (other,) = paint(**{**one, **QUICK, **changes})
        return np.abs(array(other) - array(same)).mean() > 0.1

    (same,) = paint(**one, **QUICK)
    assert not differs()
    assert differs(prompts=["a green car"])
    assert differs(negative="red")
    assert differs(seeds=[7])
    assert differs(task="removal")
    assert differs(task="shape")


def test_the_layouts_say_what_they_are(inpainters):
    said = {name: inpainter.layout for name, inpainter in inpainters.items()}
    assert said == {
        "merged": "v1 merged",
        "overlay": "v1 overlay",
        "older": "v1 overlay",
        "v2": "v2",
    }
    assert {i.multiple for i in inpainters.values()} == {2}


@pytest.mark.parametrize("layout", ["merged", "v2"])
def test_an_item_of_a_batch_equals_its_single_run(inpainters, job, layout):
    inpainter = inpainters[layout]
    together = inpainter.edit_with_raw(**job, **QUICK)
    for k, edited in enumerate(together):
        (alone,) = inpainter.edit_with_raw(**only(job, k), **QUICK)
        assert np.abs(array(alone.raw) - array(edited.raw)).max() == 0


def test_pictures_of_several_sizes_come_back_in_order(merged, job):
    job["images"][1] = job["images"][1].resize((22, 18))  # latents that the UNet does not divide
    job["masks"][1] = np.pad(job["masks"][1], ((0, 2), (6, 0)))
    together = merged.edit(**job, **QUICK, batch=2)
    assert [i.size for i in together] == [(16, 16), (22, 18), (16, 16)]
    for k in range(3):
        (alone,) = merged.edit(**only(job, k), **QUICK)
        assert np.array_equal(array(alone), array(together[k]))


@pytest.mark.parametrize("layout", ["merged", "v2"])
def test_the_global_generator_is_neither_read_nor_moved(inpainters, job, layout):
    one = only(job, 0)
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(array(inpainters[layout].edit(**one, **QUICK)[0]))
        assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(*results)


def test_without_composite_the_raw_output_comes_back(merged, job):
    pairs = merged.edit_with_raw(**job, **QUICK)
    raw = merged.edit(**job, **QUICK, composite=False)
    for pair, image, before, mask in zip(pairs, raw, job["images"], job["masks"], strict=True):
        assert np.array_equal(array(image), array(pair.raw))
        assert np.array_equal(array(pair.image)[mask], array(pair.raw)[mask])
        assert np.abs(array(pair.raw) - array(before))[~mask].mean() > 1


def stock(checkpoint, inpainter, image, mask, wanted, unwanted, seed):
    """Diffusers' own pipeline, given the prompts with the ten names spelt out."""
    parts = inpainter._paint.components
    pipe = StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)

    def spelt(text, token):
        return " ".join([text, *(f"{token}_{k}" for k in range(10))])

    return pipe(
        prompt=spelt(*wanted),
        negative_prompt=spelt(*unwanted),
        image=image,
        mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
        width=image.width,
        height=image.height,
        num_inference_steps=QUICK["steps"],
        generator=torch.Generator().manual_seed(seed),
    ).images[0]


@pytest.mark.parametrize(
    ("task", "fitting", "wanted", "unwanted"),
    [
        ("text", 1.0, ("a red car", "P_obj"), (f"low, {POOR}", "P_obj")),
        ("removal", 1.0, ("empty scene blur a red car", "P_ctxt"), ("low", "P_obj")),
        ("shape", 1.0, ("a red car", "P_shape"), (f"low, {POOR}", "P_shape")),
        ("shape", 0.0, ("a red car", "P_ctxt"), (f"low, {POOR}", "P_ctxt")),
    ],
)
def test_version_1_is_diffusers_inpainting(
    checkpoints, merged, job, task, fitting, wanted, unwanted
):
    one = only(job, 0)
    expected = stock(
        checkpoints.merged, merged, one["images"][0], one["masks"][0], wanted, unwanted, 3
    )
    (ours,) = merged.edit(
        **one, **QUICK, task=task, fitting=fitting, negative="low", composite=False
    )
    assert np.abs(array(ours) - array(expected)).max() <= 1


def test_half_a_fitting_degree_lies_between(merged, job):
    one = only(job, 0)
    full, half, none = (
        array(merged.edit(**one, **QUICK, task="shape", fitting=f)[0]) for f in (1.0, 0.5, 0.0)
    )
    assert 0 < np.abs(half - full).mean() and 0 < np.abs(half - none).mean()


@pytest.mark.parametrize("layout", ["merged", "v2"])
def test_guidance_of_one_runs_without_the_negative_half(inpainters, job, layout):
    inpainter = inpainters[layout]
    rows = []
    hook = inpainter._paint.unet.register_forward_pre_hook(
        lambda module, args: rows.append(args[0].shape[0])
    )
    inpainter.edit(**job, steps=1, guidance=1.0)
    inpainter.edit(**job, steps=1, guidance=1.5)
    hook.remove()
    assert rows == [3, 6]


@pytest.mark.parametrize("layout", ["merged", "v2"])
def test_bfloat16_is_close_to_float32(checkpoints, inpainters, job, layout):
    fast = load_inpainter(getattr(checkpoints, layout), dtype="bfloat16")
    assert fast.revision == inpainters[layout].revision
    ours = np.stack([array(i) for i in fast.edit(**job, **QUICK, guidance=2.0)])
    exact = np.stack([array(i) for i in inpainters[layout].edit(**job, **QUICK, guidance=2.0)])
    assert 0 < np.abs(ours - exact).mean() < 4


@pytest.mark.parametrize("layout", ["merged", "v2"])
def test_a_redraw_depends_less_on_the_picture_the_stronger_it_is(inpainters, job, layout):
    inpainter = inpainters[layout]
    given = {"images": job["images"], "prompts": ["a car"] * 3, "seeds": [1, 1, 2], "steps": 10}

    def dependence(strength):
        first, second, _ = inpainter.redraw(**given, strength=strength)
        return np.abs(array(first) - array(second)).mean()

    assert dependence(0.2) > 2 * dependence(0.9) > 0


@pytest.mark.parametrize("layout", ["merged", "v2"])
def test_a_redraw_runs_its_share_of_the_steps_and_is_the_same_alone(inpainters, job, layout):
    inpainter = inpainters[layout]
    ran = []
    modules = [inpainter._paint.unet, *([inpainter._brushnet] if inpainter._brushnet else [])]
    hooks = [m.register_forward_hook(lambda module, *_: ran.append(module)) for m in modules]
    together = inpainter.redraw(job["images"], job["prompts"], seeds=job["seeds"], steps=8)
    for hook in hooks:
        hook.remove()
    assert ran == [inpainter._paint.unet] * 6  # 0.75 of 8, and never BrushNet
    (alone,) = inpainter.redraw(job["images"][2:], job["prompts"][2:], seeds=[5], steps=8)
    assert np.array_equal(array(alone), array(together[2]))
    (other,) = inpainter.redraw(job["images"][2:], job["prompts"][2:], seeds=[6], steps=8)
    assert not np.array_equal(array(alone), array(other))


def test_nothing_to_edit_is_nothing_edited(merged):
    assert merged.edit([], [], [], seeds=[]) == []


def test_the_shipped_inpainter_edits(job):
    inpainter = load_inpainter("tiny-powerpaint")
    (edited,) = inpainter.edit(**only(job, 0), steps=2)
    assert inpainter.layout == "v1 merged" and edited.size == (16, 16)


def truncated():
    """A picture whose file ends early, which shows only when its pixels are asked for."""
    rng = np.random.default_rng(0)
    whole = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, "PNG")
    return Image.open(io.BytesIO(whole.getvalue()[:6000]))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("RGBA", (16, 16)), "RGBA"),
        (Image.new("P", (16, 16)), "'P'"),
        (Image.new("I;16", (16, 16)), "I;16"),
        (Image.new("RGB", (15, 16)), "multiples of 2 pixels.* got 15 x 16; .* to 16 x 16"),
        (Image.new("RGB", (16, 1)), "got 16 x 1; .* to 16 x 2"),
        (truncated(), "image 1: expected a complete image"),
    ],
    ids=["RGBA", "palette", "16 bits", "odd", "thin", "truncated"],
)
def test_an_image_that_would_be_reinterpreted_is_refused(merged, job, image, message):
    job["images"][1] = image
    with pytest.raises(ValueError, match=message):
        merged.edit(**job)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((16, 18), bool), "expected 16 x 16 pixels like its image, got 18 x 16"),
        (np.zeros((16, 16), bool), "empty mask"),
        (np.ones((16, 16), np.uint8), "expected booleans, got uint8"),
        (np.pad(np.ones((1, 1), bool), ((3, 12), (3, 12))), "its 1 pixels fall between the grid"),
    ],
    ids=["another size", "empty", "0 and 1", "lost at the latents"],
)
def test_a_mask_that_would_be_misread_is_refused(merged, job, mask, message):
    job["masks"][1] = mask
    with pytest.raises(ValueError, match=message):
        merged.edit(**job)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "outpainting"}, "expected a task among"),
        ({"prompts": ["a car", "", "a car"]}, "got an empty one"),
        ({"prompts": ["a car", "car " * 80, "a car"]}, "at most 77 tokens, got 92"),
        ({"negative": "car " * 60}, "at most 77 tokens"),
        ({"negative": "red", "guidance": 1.0}, "expected guidance above 1"),
        ({"guidance": -1.0}, "guidance of at least 0"),
        ({"guidance": float("nan")}, "guidance of at least 0"),
        ({"seeds": [1, 2]}, "3 images, 3 masks, 3 prompts, 2 seeds"),
        ({"seeds": [1, 2, -3]}, "seed 2: expected a whole number from 0, got -3"),
        ({"seeds": [1, 2.5, 3]}, "seed 1"),
        ({"steps": 0}, "steps"),
        ({"batch": 0}, "batch"),
        ({"fitting": 0.5}, "with task='shape' only"),
        ({"fitting": 1.5, "task": "shape"}, "from 0 to 1, got 1.5"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(merged, job, changes, message):
    with pytest.raises(ValueError, match=message):
        merged.edit(**{**job, **changes})


def test_one_string_is_no_sequence_of_prompts(merged, job):
    with pytest.raises(TypeError, match="pass .prompt."):
        merged.edit(**{**job, "prompts": "a car"})


@pytest.mark.parametrize("strength", [0.0, 1.0, 0.1, -0.5])
def test_a_redraw_of_no_steps_or_of_nothing_known_is_refused(merged, job, strength):
    with pytest.raises(ValueError, match="strength"):
        merged.redraw(job["images"], job["prompts"], seeds=job["seeds"], strength=strength, steps=5)


def test_values_that_are_not_finite_are_refused():
    item = Item(np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), bool), "a car", 0)
    with pytest.raises(ValueError, match="item 0: .* not finite"):
        by_size([item], 1, lambda part: np.full((1, 2, 2, 3), np.nan))
    assert Sampling(steps=1, guidance=0.5, negative="", batch=1).guided is False
