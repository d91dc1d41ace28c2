"""SAM loads with the architecture its weights have, and gives masks only for boxes that fit."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam

from vseam_lib.editing import segment
from vseam_lib.editing.pictures import check_mask, check_rgb
from vseam_lib.editing.sam import Architecture, architecture_of, build_sam, load_sam
from vseam_lib.editing.segment import Segmenter, load_segmenter
from vseam_lib.triples import Box
from vseam_lib.world.draw import draw
from vseam_lib.world.scene import mask_box, sample_scene

SMALL = Architecture(
    image=64, patch=8, width=24, depth=3, heads=3, mlp=50, window=3, global_blocks=(1,),
    prompt_width=32, mask_channels=8, decoder_depth=2, decoder_mlp=40, decoder_downsample=2,
    masks=4, iou_depth=3, iou_width=20,
)  # fmt: skip
OTHERS = [
    SMALL,
    SMALL._replace(heads=2, window=8, global_blocks=(0, 1, 2)),  # every block attends globally
    SMALL._replace(global_blocks=(), window=4, mlp=96, patch=4, depth=1),
    SMALL._replace(masks=1, iou_depth=1, iou_width=1, decoder_depth=1, decoder_downsample=4),
    SMALL._replace(mask_channels=4, prompt_width=16, image=48, patch=4),
]
BOXES = [Box(10, 8, 30, 25), Box(50, 20, 29, 39), Box(0, 0, 80, 60)]


def random_sam(architecture=SMALL, seed=0):
    """Weights large enough that masks depend on the picture and on the box."""
    torch.manual_seed(seed)
    sam = build_sam(architecture).eval().requires_grad_(False)
    for name, weight in sam.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            weight.normal_(0, 0.5)
        elif weight.dim() > 1:
            weight.mul_(2)
    return sam


def picture(seed=0, size=(60, 80)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def settings(sam):
    """Every number that a module holds: sizes, heads, windows, scales."""
    return {
        name: (
            type(m).__name__,
            {k: v for k, v in vars(m).items() if type(v) in (int, float, tuple)},
        )
        for name, m in sam.named_modules()
    }


@pytest.fixture
def segmenter():
    return Segmenter(random_sam(), revision="test")


@pytest.fixture
def encodings(monkeypatch):
    """The pictures that SAM encoded."""
    seen = []
    genuine = SamPredictor.set_image
    monkeypatch.setattr(
        SamPredictor, "set_image", lambda self, x: (seen.append(x.copy()), genuine(self, x))
    )
    return seen


@pytest.fixture(scope="module")
def heldout():
    """Scenes that the small model was not trained on: picture, boxes and exact masks."""
    scenes = []
    for index in range(6):
        image, owner = draw(sample_scene("heldout", index))
        truth = [owner == k for k in range(owner.max() + 1) if (owner == k).sum() >= 40]
        scenes.append((Image.fromarray(image), [mask_box(m) for m in truth], np.stack(truth)))
    return scenes


# The architecture


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_the_architecture_of_an_official_model_is_read_off_its_weights(name):
    with torch.device("meta"):
        official = sam_model_registry[name]()
        inferred = architecture_of(official.state_dict())
        mine = build_sam(inferred)
    assert settings(mine) == settings(official)
    shapes = {k: v.shape for k, v in official.state_dict().items()}
    assert {k: v.shape for k, v in mine.state_dict().items()} == shapes


@pytest.mark.parametrize("architecture", OTHERS)
def test_the_architecture_of_a_small_model_is_read_off_its_weights(architecture):
    with torch.device("meta"):
        assert architecture_of(build_sam(architecture).state_dict()) == architecture


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_model_read_from_a_file_gives_the_masks_of_the_original(tmp_path, suffix):
    sam, path = random_sam(), tmp_path / f"sam{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(sam.state_dict(), path)
    loaded = load_segmenter(path)
    assert not loaded.sam.training and not any(p.requires_grad for p in loaded.sam.parameters())

    predictor = SamPredictor(sam)
    predictor.set_image(picture())
    genuine = [
        predictor.predict(box=np.array([x, y, x + w, y + h]), multimask_output=False)[0][0]
        for x, y, w, h in BOXES
    ]
    masks = loaded.masks(picture(), BOXES)
    assert np.array_equal(masks, genuine)
    assert masks.dtype == bool and masks.shape == (3, 60, 80) and 0 < masks.mean() < 1


def test_half_precision_weights_are_computed_with_in_full_precision(tmp_path):
    half = {k: v.half() for k, v in random_sam().state_dict().items()}
    save_file(half, tmp_path / "sam.safetensors")
    loaded = load_sam(tmp_path / "sam.safetensors").state_dict()
    assert all(torch.equal(loaded[k], v.float()) for k, v in half.items())


def test_the_revision_names_weights_and_precision(tmp_path):
    paths = [tmp_path / f"{seed}.pth" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        torch.save(random_sam(seed=seed).state_dict(), path)
    (tmp_path / "copy.pth").write_bytes(paths[0].read_bytes())
    one, other = (load_segmenter(p).revision for p in paths)
    assert one != other and load_segmenter(tmp_path / "copy.pth").revision == one
    assert load_segmenter(paths[0], dtype="bfloat16").revision != one


# Files that are refused


def save(tmp_path, state):
    torch.save(state, tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


def test_missing_and_extra_tensors_are_listed(tmp_path):
    state = random_sam().state_dict()
    del state["mask_decoder.iou_token.weight"]
    state["adapter.weight"] = torch.zeros(2)
    state["image_encoder.neck.0.weight"] = torch.zeros(5, 24, 1, 1)
    with pytest.raises(ValueError, match="missing: mask_decoder.iou_token.weight; ") as error:
        load_segmenter(save(tmp_path, state))
    assert "not part of a SAM: adapter.weight" in str(error.value)
    assert "of another shape: image_encoder.neck.0.weight" in str(error.value)


@pytest.mark.parametrize(
    "state, message",
    [
        ({"weight": torch.zeros(2)}, "found no 'image_encoder.patch_embed.proj.weight' among 1"),
        ({"vision_encoder.pos_embed": torch.zeros(2)}, "transformers' SamModel"),
        ({"image_encoder.trunk.pos_embed": torch.zeros(2)}, "SAM 2"),
        (
            {"model": {"weight": torch.zeros(2)}, "epoch": 3},
            "bare state dict, found a dict of epoc",
        ),
        ([torch.zeros(2)], "bare state dict, found a list"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, state, message):
    with pytest.raises(ValueError, match=message):
        load_segmenter(save(tmp_path, state))


def test_relative_positions_of_several_windows_are_refused(tmp_path):
    state = random_sam(SMALL._replace(global_blocks=())).state_dict()
    state["image_encoder.blocks.1.attn.rel_pos_h"] = torch.zeros(7, 8)
    with pytest.raises(ValueError, match=r"one window, found 3, \[8\] and \[3, 4\]"):
        load_segmenter(save(tmp_path, state))


class Payload:
    """Something whose unpickling would run code."""

    def __reduce__(self):
        return pytest.fail, ("code of a checkpoint ran",)


def test_no_code_of_a_checkpoint_runs(tmp_path):
    with pytest.raises(ValueError, match="tensors only"):
        load_segmenter(save(tmp_path, {"weight": Payload()}))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b"cut"])
def test_a_damaged_file_is_refused_by_name(tmp_path, suffix, content):
    path = tmp_path / f"sam{suffix}"
    state = random_sam().state_dict()
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    path.write_bytes(path.read_bytes()[:-1000] if content == b"cut" else content)
    with pytest.raises(ValueError, match=f"{path.name}: expected a complete"):
        load_segmenter(path)


def test_a_name_that_is_neither_shipped_nor_a_file_is_refused(tmp_path):
    for name in ("vit_b", "tiny-llava", tmp_path):
        with pytest.raises(FileNotFoundError, match="tiny-sam.*sam_vit_b_01ec64.pth"):
            load_segmenter(name)
    with pytest.raises(ValueError, match="float32, bfloat16, got 'float16'"):
        load_segmenter("tiny-sam", dtype="float16")


# Masks


def test_masks_of_several_boxes_equal_those_of_single_calls(segmenter):
    together = segmenter.masks(picture(), BOXES)
    for box, mask in zip(BOXES, together, strict=True):
        fresh = Segmenter(segmenter.sam, revision="test")
        assert np.array_equal(fresh.masks(picture(), [box])[0], mask)
    assert len({m.tobytes() for m in together}) > 1


def test_the_union_holds_every_pixel_of_any_mask(segmenter):
    masks = segmenter.masks(picture(), BOXES[:2])
    assert np.array_equal(segmenter.union(picture(), BOXES[:2]), masks[0] | masks[1])


def test_pil_images_and_arrays_give_the_same_masks(segmenter, encodings):
    masks = [segmenter.masks(x, BOXES) for x in (picture(), Image.fromarray(picture()))]
    assert np.array_equal(*masks) and len(encodings) == 1


def test_a_picture_is_encoded_once_for_all_its_boxes(segmenter, encodings):
    first = segmenter.masks(picture(), BOXES)
    again = [segmenter.masks(picture(), [box])[0] for box in BOXES]
    assert len(encodings) == 1 and np.array_equal(first, again)


def test_only_the_pictures_used_last_are_kept(encodings):
    segmenter = Segmenter(random_sam(), revision="test", keep=2)
    for seed in (0, 1, 0, 2, 0, 1):  # 2 displaces 1, and 1 then displaces 2
        segmenter.masks(picture(seed), BOXES)
    wanted = [picture(seed).tobytes() for seed in (0, 1, 2, 1)]
    assert [x.tobytes() for x in encodings] == wanted
    with pytest.raises(ValueError, match="keep=0"):
        Segmenter(segmenter.sam, revision="test", keep=0)


def test_an_array_changed_in_place_is_another_picture(segmenter):
    image = picture()
    before = segmenter.masks(image, BOXES)
    image[:] = picture(1)
    assert not np.array_equal(segmenter.masks(image, BOXES), before)
    transposed = picture().transpose(1, 0, 2)  # the same pixels in memory, another shape
    assert segmenter.masks(transposed, [Box(3, 3, 20, 20)]).shape == (1, 80, 60)


def test_autocast_leaves_the_decoder_in_full_precision(segmenter):
    """bfloat16 knows no odd numbers above 256: corners that differ by a pixel must stay apart."""
    half = Segmenter(segmenter.sam, revision="test", dtype="bfloat16")
    image = picture(size=(600, 800))
    a, b = (half.masks(image, [Box(301, 303, x, 200)], allow_empty=True) for x in (200, 201))
    assert a.dtype == bool and not np.array_equal(a, b)
    full = segmenter.masks(image, [Box(301, 303, 200, 200)], allow_empty=True)
    assert (full == a).mean() > 0.9


def test_an_empty_mask_is_an_error_unless_allowed():
    sam = random_sam()
    sam.mask_threshold = 1e9
    segmenter = Segmenter(sam, revision="test")
    with pytest.raises(ValueError, match=r"box 0, \(10, 8, 30, 25\) of the 80 x 60 image"):
        segmenter.masks(picture(), BOXES)
    with pytest.raises(ValueError, match="allow_empty"):
        segmenter.union(picture(), BOXES)
    assert not segmenter.masks(picture(), BOXES, allow_empty=True).any()


@pytest.mark.parametrize(
    "boxes, error, message",
    [
        ([], ValueError, "at least one box, got none"),
        (BOXES[0], TypeError, r"pass \[box\]"),
        ([BOXES[0], (1, 2, 3, 4)], TypeError, r"box 1: expected .*Box\(x, y, w, h\), got \(1, 2"),
        ([np.array([1, 2, 3, 4])], TypeError, "box 0"),
        ([BOXES[0], Box(5, 5, 0, 9)], ValueError, "box 1: expected x, y >= 0 and w, h > 0"),
        ([Box(40, 30, -20, -10)], ValueError, "not two corners"),
        ([Box(-1, 5, 9, 9)], ValueError, "box 0"),
        ([Box(70, 5, 11, 9)], ValueError, "leaves the 80 x 60 image"),
        (
            [Box(50, 20, 79, 59)],
            ValueError,
            r"As two corners it would fit: make Box\(50, 20, 29, 39",
        ),
        ([Box(float("nan"), 5, 9, 9)], ValueError, "finite"),
    ],
)
def test_boxes_that_do_not_fit_are_refused_before_the_picture_is_encoded(
    segmenter, encodings, boxes, error, message
):
    with pytest.raises(error, match=message):
        segmenter.masks(picture(), boxes)
    assert not encodings


# Pictures and masks as such


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1", "I;16", "F", "CMYK"])
def test_pil_images_of_other_modes_are_refused(segmenter, mode):
    image = Image.new(mode, (80, 60))
    with pytest.raises(ValueError, match=f"mode 'RGB', got '{image.mode}'"):
        segmenter.masks(image, BOXES)


@pytest.mark.parametrize(
    "image, message",
    [
        (picture() / 255, r"uint8 values from 0 to 255, got float64; scale"),
        (picture().astype(np.uint16), "got uint16"),
        (picture()[..., 0], "np.stack"),
        (np.zeros((60, 80, 4), np.uint8), "alpha"),
        (picture().transpose(2, 0, 1), "channels come last"),
        (picture()[None], "one picture at a time"),
        (np.zeros((0, 80, 3), np.uint8), "at least one pixel"),
    ],
)
def test_arrays_that_are_no_rgb_picture_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        check_rgb(image)


def test_rgb_pictures_pass_unchanged():
    assert check_rgb(picture()) is not None and np.array_equal(check_rgb(picture()), picture())
    assert np.array_equal(check_rgb(Image.fromarray(picture())), picture())
    with pytest.raises(TypeError, match="before: .*open_image"):
        check_rgb("picture.png", of="before")


@pytest.mark.parametrize(
    "mask, error, message",
    [
        (np.ones((60, 80), np.uint8), ValueError, "got uint8 values up to 1; use mask > 0"),
        (np.full((60, 80), 0.5), ValueError, "probabilities"),
        (np.ones((60, 80, 4), bool), ValueError, "one channel"),
        (
            np.ones((80, 60), bool),
            ValueError,
            "expected 80 x 60 pixels like its image, got 60 x 80",
        ),
        (np.zeros((60, 80), bool), ValueError, "empty mask"),
        (Image.new("L", (80, 60), 255), TypeError, "np.asarray"),
    ],
)
def test_masks_that_editors_would_misread_are_refused(mask, error, message):
    with pytest.raises(error, match=message):
        check_mask(mask, (80, 60))


def test_a_boolean_mask_of_the_images_size_passes_unchanged():
    mask = np.zeros((60, 80), bool)
    mask[3, 4] = True
    assert check_mask(mask, Image.new("RGB", (80, 60)).size) is mask


# The model that comes with the repository


def test_the_shipped_model_segments_objects_of_pictures_it_never_saw(heldout):
    segmenter = load_segmenter("tiny-sam")
    ious = []
    for image, boxes, truth in heldout:
        found = segmenter.masks(image, boxes)
        ious += [(a & b).sum() / (a | b).sum() for a, b in zip(found, truth, strict=True)]
    assert np.mean(ious) >= 0.95


def test_the_shipped_models_masks_follow_the_box(heldout):
    """Another object's box gives another mask: the model does not segment whatever is salient."""
    segmenter = load_segmenter("tiny-sam")
    for image, boxes, truth in heldout[:3]:
        found = segmenter.masks(image, boxes)
        overlap = (found[:, None] & truth[None]).sum((2, 3)) / truth.sum((1, 2))
        assert (overlap.argmax(1) == np.arange(len(boxes))).all()


def test_shipped_segmenters_are_there_and_are_no_language_models():
    from vseam_lib.vlm.load import shipped

    for name in segment.SHIPPED:
        assert isinstance(load_segmenter(name).sam, Sam) and name not in shipped()
