import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vseam_lib import figures
from vseam_lib.figures import flow
from vseam_lib.stats import Band
from vseam_lib.triples import Box, Category, Level
from vseam_lib.vlm.adapter import Head
from vseam_lib.vlm.spans import ROLES

CATEGORIES = [str(c) for c in Category]


pytestmark = pytest.mark.usefixtures("closed_figures")


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


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def titles_of(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_heads_of_resampled_lists_have_a_curve_per_category_and_a_panel_per_side():
    curves = {
        side: {c: np.linspace(1, 0, 40) - 0.01 * k for k, c in enumerate(CATEGORIES)}
        for side in ("positive", "negative")
    }
    figure = figures.stability_curves(curves, 5)
    assert titles_of(figure) == ["positive heads (K = 5)", "negative heads (K = 5)"]
    for ax in figure.axes:
        drawn = [line for line in ax.lines if line.get_label() in CATEGORIES]
        assert [line.get_label() for line in drawn] == CATEGORIES
        assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 7
        for k, line in enumerate(drawn):
            assert list(line.get_xdata()) == list(range(1, 16)), "three times K ranks"
            assert np.allclose(line.get_ydata(), np.linspace(1, 0, 40)[:15] - 0.01 * k)
        (at_k,) = [line for line in ax.lines if line.get_label() not in CATEGORIES]
        assert set(at_k.get_xdata()) == {5.5}
    assert legend_of(figure.axes[-1]) == CATEGORIES


def band(values, width=0.1):
    values = np.asarray(values, float)
    return Band(values, values - width, values + width)


@pytest.mark.parametrize("names", [CATEGORIES, [str(level) for level in Level]])
def test_flow_has_a_panel_per_span_and_a_curve_with_its_band_per_name(names):
    panels = {
        span: {name: band(np.arange(4) + k) for k, name in enumerate(names)}
        for span in ("image", "question")
    }
    figure = flow.flow_curves(panels, label="change of the logit", reference=2.5)
    assert titles_of(figure) == ["image tokens patched", "question tokens patched"]
    for ax in figure.axes:
        drawn = [line for line in ax.lines if line.get_label() in names]
        assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == len(names)
        for k, (line, between) in enumerate(zip(drawn, ax.collections, strict=True)):
            assert list(line.get_ydata()) == [k, k + 1, k + 2, k + 3]
            low, high = np.min(between.get_paths()[0].vertices[:, 1]), k + 3.1
            assert low == pytest.approx(k - 0.1)
            assert np.max(between.get_paths()[0].vertices[:, 1]) == pytest.approx(high)
        levels = [line.get_ydata()[0] for line in ax.lines if line not in drawn]
        assert levels == [0, 2.5], "no effect, and the reference"
        assert list(ax.get_xticks()) == [0, 1, 2, 3] and ax.get_xlabel() == "layer"
    assert figure.axes[0].get_ylabel() == "change of the logit"
    assert legend_of(figure.axes[-1]) == names


def test_a_single_span_has_a_single_panel_and_no_reference_unless_asked():
    figure = flow.flow_curves({"image": {"color": band([1, 2])}}, label="x")
    (ax,) = figure.axes
    assert [list(line.get_ydata()) for line in ax.lines] == [[1, 2], [0, 0]]


def role_tables(**values):
    """Per category a table of some roles and three layers."""
    return {
        category: pd.DataFrame(rows, index=["object", "last token"][: len(rows)], dtype=float)
        for category, rows in values.items()
    }


@pytest.mark.parametrize("site", ["attn", "mlp", "block"])
def test_role_maps_share_one_scale_from_zero_in_the_order_of_the_roles(site):
    tables = role_tables(color=[[0, 1, 2], [3, 4, 5]], spatial=[[1, 1, 8]])
    figure = flow.role_maps(tables, site, label="share")
    drawn = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in drawn] == ["color", "spatial"]
    for ax, table in zip(drawn, tables.values(), strict=True):
        (image,) = ax.images
        assert (image.norm.vmin, image.norm.vmax) == (0, 8)
        assert image.cmap.name.startswith(flow.SITE_CMAP[site])
        shown = image.get_array()
        assert shown.shape == (2, 3) and shown[: len(table)].tolist() == table.to_numpy().tolist()
        assert shown[len(table) :].mask.all(), "a role that a category lacks is blank"
    rows = [text.get_text() for text in drawn[0].get_yticklabels()]
    assert rows == ["object", "last token"] == [r for r in ROLES if r in rows]
    assert figure.axes[-1].get_ylabel() == "share", "on the colour bar"


@pytest.mark.parametrize("low, extend", [(-1.0, "min"), (0.0, "neither")])
def test_role_maps_say_where_values_lie_below_the_scale(low, extend):
    figure = flow.role_maps(role_tables(color=[[low, 1, 2]]), "attn", label="share")
    assert figure.axes[0].images[0].colorbar.extend == extend


def test_role_maps_leave_unused_panels_empty():
    tables = {c: pd.DataFrame([[1.0, 2.0]], index=["object"]) for c in CATEGORIES}
    figure = flow.role_maps(tables, "mlp", label="share")
    assert titles_of(figure) == CATEGORIES
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert [bool(ax.images) for ax in panels] == [True] * 7 + [False]
    assert not panels[-1].axison


def test_token_maps_show_both_pictures_and_every_token_of_every_site():
    pictures = [Image.new("RGB", (12, 10), color) for color in ("red", "blue")]
    tokens = ["Is", "the", "price", "$", "5", "$", "?"]
    rng = np.random.default_rng(0)
    maps = {site: rng.normal(size=(3, 7)) * k for k, site in enumerate(("attn", "mlp"), start=1)}
    figure = flow.token_maps(pictures, [Box(2, 3, 4, 5)], maps, tokens, label="effect")
    figure.canvas.draw()  # formulas are set, and fail, when drawn
    clean, edited, first, second = [ax for ax in figure.axes if ax.get_title()]
    for ax, picture, title in zip((clean, edited), pictures, ("clean", "edited"), strict=True):
        assert ax.get_title() == title
        assert np.array_equal(ax.images[0].get_array(), np.asarray(picture))
        (box,) = ax.patches
        assert (*box.get_xy(), box.get_width(), box.get_height()) == (1.5, 2.5, 4, 5)
    for ax, (site, values) in zip((first, second), maps.items(), strict=True):
        (image,) = ax.images
        top = np.abs(values).max()
        assert ax.get_title() == flow.SITE_NAME[site]
        assert np.array_equal(image.get_array(), values.T), "tokens downwards, layers across"
        assert (image.norm.vmin, image.norm.vmax) == (-top, top)
    written = [text.get_text() for text in first.get_yticklabels()]
    assert [text.replace("\\", "") for text in written] == tokens
    assert written[3] == r"\$", "a dollar sign begins no formula"
    assert {text.get_text() for text in second.get_yticklabels()} == {""}


@pytest.mark.parametrize("n, ticks", [(8, list(range(8))), (12, list(range(12)))])
def test_small_models_have_a_tick_per_layer(n, ticks):
    figure = flow.flow_curves({"image": {"color": band(np.zeros(n))}}, label="x")
    assert list(figure.axes[0].get_xticks()) == ticks


def test_large_models_have_a_tick_every_fourth_layer():
    figure = flow.flow_curves({"image": {"color": band(np.zeros(32))}}, label="x")
    assert list(figure.axes[0].get_xticks()) == list(range(0, 32, 4))
