import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from vseam_lib import figures
from vseam_lib.triples import Box, Category
from vseam_lib.vlm.adapter import Head

CATEGORIES = [str(c) for c in Category]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_head_maps_share_one_scale_centred_at_zero():
    maps = {c: np.random.default_rng(k).normal(size=(3, 4)) for k, c in enumerate(CATEGORIES)}
    figure = figures.head_maps(maps, {"color": [Head(1, 2)]}, label="change")
    drawn = [ax.images[0] for ax in figure.axes if ax.images and ax.get_title()]
    limits = {(image.norm.vmin, image.norm.vmax) for image in drawn}
    top = 1.5 * np.median([np.abs(m).max() for m in maps.values()])
    assert limits == {(-top, top)}
    assert len(drawn) == 7
    outlined = next(ax for ax in figure.axes if ax.get_title() == "color").patches
    assert [(p.get_x(), p.get_y()) for p in outlined] == [(1.5, 0.5)]


def test_every_category_has_its_curve_and_its_own_look():
    curves = {c: np.arange(12.0).reshape(3, 4) for c in CATEGORIES}
    ax = figures.ranked_effects(curves, 3, label="loss").axes[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in ax.lines[:7]}
    assert len(looks) == 7
    assert list(ax.lines[0].get_ydata()) == sorted(range(12), reverse=True)


def test_changes_show_every_edit_in_every_panel():
    rows = [
        (images, c, edit, measure, 1.0, 0.0, 2.0)
        for images in ("chosen", "new")
        for c in CATEGORIES
        for edit in figures.EDIT_STYLE
        for measure in ("accuracy", "yes-rate")
    ]
    columns = ["images", "category", "edit", "measure", "mean", "low", "high"]
    figure = figures.edit_changes(pd.DataFrame(rows, columns=columns))
    assert len(figure.axes) == 4
    assert all(len(ax.containers) == len(figures.EDIT_STYLE) for ax in figure.axes)


def test_a_gallery_draws_the_boxes_where_they_are():
    picture = np.zeros((10, 10, 3), np.uint8)
    figure = figures.gallery([[picture, picture]], [["a", "b"]], [[[Box(2, 3, 4, 5)], []]])
    first = figure.axes[0].patches[0]
    assert (first.get_x(), first.get_y(), first.get_width(), first.get_height()) == (1.5, 2.5, 4, 5)
