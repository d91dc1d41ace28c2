from itertools import combinations, permutations, product

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import kstest

from vseam_lib.causal.attention import Regions
from vseam_lib.causal.chance import Chance, permuted_boxes, random_heads, summarise
from vseam_lib.figures.attention import attention_example, overlap_points
from vseam_lib.triples import Box, VQATriple
from vseam_lib.vlm.adapter import Head
from vseam_lib.vlm.looking import grid

CELLS = 16


def noise(rng, sizes, *, bound=0.0):
    """Maps and covers of images with ``sizes`` questions; questions about one image are alike.
    ``bound`` moves attention into the boxes.
    """
    images = np.repeat(np.arange(len(sizes)), sizes)
    covers = rng.random((len(sizes), CELLS))[images].round()
    maps = rng.random((len(sizes), CELLS))[images] + 0.1 * rng.random((len(images), CELLS))
    maps += bound * covers
    return 100 * maps / maps.sum(1, keepdims=True), covers, images.astype(str)


@pytest.mark.parametrize("sizes", [[1] * 20, [1, 2, 3, 4] * 5], ids=["one each", "clustered"])
def test_p_values_of_random_attention_are_uniform(sizes):
    found = [
        permuted_boxes(*noise(np.random.default_rng(k), sizes), draws=200, seed=k)
        for k in range(200)
    ]
    for p in ([f.p_more for f in found], [f.p_less for f in found]):
        assert kstest(p, "uniform").pvalue > 0.01
        assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.1


def test_attention_that_follows_the_box_is_found():
    found = permuted_boxes(*noise(np.random.default_rng(0), [1, 2] * 10, bound=0.5))
    assert found.p_more < 0.01 and found.p_less > 0.9
    away = permuted_boxes(*noise(np.random.default_rng(0), [1, 2] * 10, bound=-0.05))
    assert away.p_less < away.p_more


def test_attention_to_a_place_where_objects_tend_to_be_is_no_finding():
    """Every box and every map in the same corner: a large overlap, and nothing but chance."""
    maps, covers = np.zeros((8, CELLS)), np.zeros((8, CELLS))
    maps[:, 0], covers[:, 0] = 100, 1
    found = permuted_boxes(maps, covers, list("abcdefgh"))
    assert found == Chance(100, 100, 100, 1, 1)


def test_permuted_boxes_are_all_orders_of_the_images():
    maps, covers, images = noise(np.random.default_rng(3), [1] * 4)
    means = [
        np.mean([maps[i] @ covers[j] for i, j in enumerate(order)])
        for order in permutations(range(4))
    ]
    found = permuted_boxes(maps, covers, images, draws=20000)
    assert found.mean == pytest.approx(np.mean(means), rel=0.01)
    exact = np.mean(np.array(means) >= means[0] - 1e-9)
    assert found.p_more == pytest.approx(exact, abs=0.01)


def test_the_order_of_triples_does_not_matter():
    maps, covers, images = noise(np.random.default_rng(1), [1] * 9)
    order = np.random.default_rng(2).permutation(9)
    one = permuted_boxes(maps, covers, images)
    two = permuted_boxes(maps[order], covers[order], images[order])
    assert one == pytest.approx(two)


def test_every_draw_holds_the_same_boxes():
    """Even attention finds the area of the boxes, however many questions their images have."""
    _, covers, images = noise(np.random.default_rng(0), [1, 2, 3, 1, 2, 7])
    even = np.full_like(covers, 100 / CELLS)
    found, area = permuted_boxes(even, covers, images), 100 * covers.mean()
    assert found == pytest.approx((area, area, area, 1, 1))


@pytest.mark.parametrize("images", ["aaa", "abb", ""])
def test_images_with_nothing_to_exchange_are_an_error(images):
    ones = np.ones((len(images), 4))
    with pytest.raises(ValueError, match="equally many questions to exchange.*more images"):
        permuted_boxes(ones, ones, list(images))


def test_unequal_lengths_are_an_error():
    with pytest.raises(ValueError, match="a map, a box and an image per triple, got 3, 2 and 3"):
        permuted_boxes(np.ones((3, 4)), np.ones((2, 4)), list("abc"))


def test_random_heads_are_all_sets_with_as_many_heads_per_layer():
    overlap = np.random.default_rng(0).random((5, 3, 4))
    heads = [Head(0, 1), Head(2, 0), Head(2, 3)]
    mean = overlap.mean(0)
    sets = [
        (mean[0, a] + mean[2, b] + mean[2, c]) / 3
        for a, (b, c) in product(range(4), combinations(range(4), 2))
    ]
    found = random_heads(overlap, heads, draws=20000)
    assert found.mean == pytest.approx(np.mean(sets), rel=0.01)
    own = (mean[0, 1] + mean[2, 0] + mean[2, 3]) / 3
    assert found.p_more == pytest.approx(np.mean(np.array(sets) >= own - 1e-9), abs=0.02)


def test_no_heads_have_no_match():
    with pytest.raises(ValueError, match="at least one head"):
        random_heads(np.ones((2, 3, 4)), [])


def test_a_p_value_is_never_zero():
    assert Chance.of(np.zeros(99), 1.0).p_more == pytest.approx(0.01)


def table():
    rng = np.random.default_rng(0)
    maps, covers, images = noise(rng, [1, 2, 3] * 4, bound=0.3)
    triples = [
        VQATriple(str(k), i, f"{i}.png", "Is it?", "Yes", "animal", (Box(0, 0, 4, 4),))
        for k, i in enumerate(images)
    ]
    regions = Regions(triples, covers, {})
    overlap = 100 * rng.random((len(images), 2, 3))
    sets = {"positive": [Head(0, 0)], "negative": [Head(1, 1), Head(1, 2)]}
    drawn = {"positive": maps, "negative": np.full_like(maps, 100 / CELLS)}
    return regions, overlap, drawn, sets


def test_the_summary_holds_means_areas_and_references():
    regions, overlap, drawn, sets = table()
    rows = summarise(regions, overlap, drawn, sets, draws=300).set_index("set")
    own = (drawn["positive"] * regions.covers).sum(1)
    assert rows.loc["positive", "overlap"] == pytest.approx(own.mean())
    assert rows["low"].lt(rows["overlap"]).all() and rows["overlap"].lt(rows["high"]).all()
    assert (rows["area"] == regions.covers.mean() * 100).all()
    assert rows.loc["negative", "enrichment"] == pytest.approx(1), "even attention is chance"
    assert rows.loc["positive", "p_more"] < 0.01
    assert rows.loc["negative", "permuted"] == pytest.approx(regions.area.mean())
    assert list(rows["triples"]) == [24, 24] and list(rows["images"]) == [12, 12]
    assert list(rows["heads"]) == [1, 2]


def test_the_summary_is_the_same_every_time():
    pd.testing.assert_frame_equal(*(summarise(*table(), draws=100) for _ in range(2)))


def test_the_figure_has_a_point_per_category_and_side():
    rows = summarise(*table(), draws=50)
    both = pd.concat([rows.assign(category=c) for c in ("animal", "action")])
    figure = overlap_points(both)
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["animal", "action"]
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert {"positive heads", "negative heads", "boxes of other images"} <= set(names)
    points = {c.get_label(): c.lines[0].get_ydata() for c in ax.containers if c.lines[0]}
    assert list(points["positive heads"]) == [rows["overlap"][0]] * 2


def test_the_example_lays_attention_where_the_cells_are():
    cells = grid(20, 0, 20, 20, 2)
    maps = {"L0.H1": np.array([10.0, 20, 30, 40])}
    figure = attention_example(Image.new("RGB", (60, 20)), Box(25, 5, 10, 10), maps, cells)
    image = figure.axes[1].images[1]
    assert list(image.get_extent()) == [19.5, 39.5, 19.5, -0.5]
    assert image.get_array().tolist() == [[10, 20], [30, 40]]
    assert figure.axes[0].patches[0].get_bbox().bounds == (24.5, 4.5, 10, 10)
