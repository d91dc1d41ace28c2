import numpy as np
import pytest
from PIL import Image

from vseam_lib.editing import perturb as p
from vseam_lib.triples import Box


@pytest.fixture
def picture():
    """Mid-tones only, so that nothing is black, white or clipped from the start."""
    return Image.fromarray(np.random.default_rng(0).integers(90, 160, (40, 50, 3)).astype(np.uint8))


@pytest.fixture
def region():
    mask = np.zeros((40, 50), bool)
    mask[5:15, 20:30] = True
    return mask


def pixels(image):
    return np.asarray(image).astype(int)


def test_methods_are_the_papers_rows_in_its_order():
    assert list(p.METHODS) == [
        *(f"gaussian-{i}" for i in (10, 30, 50, 80)),
        *(f"salt-and-pepper-{i}" for i in (10, 30, 50, 80)),
        *("masking", "redraw", "semantic"),
    ]
    assert [name for name, method in p.METHODS.items() if not method.pure] == ["redraw", "semantic"]


@pytest.mark.parametrize("scale, sigma", [("percent", 0.04 * 255), ("uint8", 4)])
def test_gaussian_intensity_is_the_standard_deviation_on_its_scale(scale, sigma):
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    noise = pixels(p.gaussian(grey, 4, scale=scale, rng=p.item_rng(0, "a"))) - 128
    assert noise.std() == pytest.approx(sigma, rel=0.02)
    assert abs(noise.mean()) < 0.1
    assert abs(np.corrcoef(noise.reshape(-1, 3).T)[0, 1]) < 0.02, "channels are independent"


def test_gaussian_noise_is_clipped_not_wrapped():
    white = Image.new("RGB", (100, 100), (255, 255, 255))
    noisy = pixels(p.gaussian(white, 10, scale="percent", rng=p.item_rng(0, "a")))
    assert (noisy == 255).mean() > 0.45 and noisy.min() > 80


@pytest.mark.parametrize("scale, intensity", [("percent", 20), ("uint8", 51)])
def test_salt_and_pepper_hits_exactly_its_share_half_black_half_white(picture, scale, intensity):
    noisy = pixels(p.salt_and_pepper(picture, intensity, scale=scale, rng=p.item_rng(0, "a")))
    black, white = (noisy == 0).all(-1), (noisy == 255).all(-1)
    assert black.sum() == white.sum() == 200, "of 2000 pixels"
    kept = ~(black | white)
    assert np.array_equal(noisy[kept], pixels(picture)[kept]), "channels change together or not"


def test_no_intensity_changes_nothing(picture):
    for noise in (p.gaussian, p.salt_and_pepper):
        same = noise(picture, 0, scale="percent", rng=p.item_rng(0, "a"))
        assert np.array_equal(pixels(same), pixels(picture))


def test_full_salt_and_pepper_leaves_no_pixel(picture):
    noisy = pixels(p.salt_and_pepper(picture, 100, scale="percent", rng=p.item_rng(0, "a")))
    assert np.isin(noisy, (0, 255)).all()


def test_stronger_noise_of_an_item_is_the_same_noise_grown(picture):
    weak, strong = (
        pixels(p.salt_and_pepper(picture, i, scale="percent", rng=p.item_rng(0, "a")))
        for i in (10, 80)
    )
    hit = np.isin(weak, (0, 255)).all(-1)
    assert hit.any() and np.array_equal(weak[hit], strong[hit])


def test_an_items_noise_depends_on_seed_and_id_and_on_nothing_else(picture, region):
    def noisy(seed, name):
        return pixels(p.perturb("gaussian-30", picture, region, p.item_rng(seed, name)))

    first = noisy(3, "a")
    noisy(3, "b")
    assert np.array_equal(noisy(3, "a"), first)
    assert not np.array_equal(noisy(3, "b"), first)
    assert not np.array_equal(noisy(4, "a"), first)


@pytest.mark.parametrize("name", [n for n, method in p.METHODS.items() if method.pure])
def test_no_method_changes_the_picture_it_is_given(picture, region, name):
    before = pixels(picture).copy()
    changed = p.perturb(name, picture, region, p.item_rng(0, "a"))
    assert changed.mode == "RGB" and changed.size == picture.size
    assert np.array_equal(pixels(picture), before)
    assert not np.array_equal(pixels(changed), before)


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_masking_fills_the_region_and_nothing_else(picture, region, fill):
    filled = pixels(p.masked(picture, region, fill=fill))
    assert np.array_equal(filled[~region], pixels(picture)[~region])
    colour = np.rint(pixels(picture).mean((0, 1))) if fill == "mean" else np.zeros(3)
    assert (filled[region] == colour).all()


def test_a_box_region_holds_the_pixels_of_its_boxes():
    region = p.box_region([Box(1, 2, 3, 4), Box(2, 3, 5, 1)], (10, 8))
    assert region.shape == (8, 10)
    assert region.sum() == 12 + 5 - 2
    assert region[2:6, 1:4].all() and region[3, 2:7].all()


@pytest.mark.parametrize(
    "scale, intensity", [("percent", 101), ("uint8", 256), ("percent", -1), ("uint8", np.nan)]
)
def test_an_intensity_off_its_scale_is_refused(picture, scale, intensity):
    for noise in (p.gaussian, p.salt_and_pepper):
        with pytest.raises(ValueError, match="expected an intensity from 0 to"):
            noise(picture, intensity, scale=scale, rng=p.item_rng(0, "a"))


def test_wrong_input_is_refused_with_what_would_do(picture, region):
    rng = p.item_rng(0, "a")
    with pytest.raises(ValueError, match="scale in percent, uint8, got 'sigma'"):
        p.gaussian(picture, 10, scale="sigma", rng=rng)
    with pytest.raises(ValueError, match="fill in black, mean"):
        p.masked(picture, region, fill="grey")
    with pytest.raises(ValueError, match="did you mean 'gaussian-10'"):
        p.perturb("gaussian-1", picture, region, rng)
    with pytest.raises(ValueError, match="Inpainter.redraw"):
        p.perturb("redraw", picture, region, rng)
    with pytest.raises(ValueError, match="Inpainter.edit"):
        p.perturb("semantic", picture, region, rng)
    with pytest.raises(ValueError, match="mode 'RGB'"):
        p.gaussian(picture.convert("L"), 10, scale="percent", rng=rng)
    with pytest.raises(ValueError, match="region: expected 50 x 40"):
        p.perturb("gaussian-10", picture, region.T, rng)
    with pytest.raises(ValueError, match="at least one box"):
        p.box_region([], picture.size)
    with pytest.raises(ValueError, match="leaves the"):
        p.box_region([Box(45, 0, 10, 5)], picture.size)
    with pytest.raises(ValueError, match="seed of at least 0"):
        p.item_rng(-1, "a")
