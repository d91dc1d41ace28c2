import numpy as np
import pandas as pd
import pytest

from vseam_lib.figures import bias
from vseam_lib.triples import Category

CATEGORIES = [str(c) for c in Category]
pytestmark = pytest.mark.usefixtures("closed_figures")


def moves(*panels, categories=CATEGORIES):
    rng = np.random.default_rng(0)
    rows = [(images, c, *rng.normal(size=4)) for images in panels for c in categories]
    return pd.DataFrame(rows, columns=["images", "category", "c0", "d0", "c1", "d1"])


def test_every_category_has_an_arrow_from_before_to_after_in_every_panel():
    table = moves("chosen", "new")
    figure = bias.threshold_arrows(table)
    assert [ax.get_title() for ax in figure.axes] == ["chosen", "new"]
    for ax, (_, part) in zip(figure.axes, table.groupby("images"), strict=True):
        arrows = [text for text in ax.texts if text.arrow_patch is not None]
        for arrow, row in zip(arrows, part.itertuples(), strict=True):
            assert arrow.xy == (row.c1, row.d1) and arrow.xyann == (row.c0, row.d0)
        starts = [line for line in ax.lines if line.get_label() in CATEGORIES]
        assert [line.get_label() for line in starts] == CATEGORIES
        assert len({(line.get_color(), line.get_marker()) for line in starts}) == 7
        low, high = sorted(ax.get_ylim())
        assert low < table[["d0", "d1"]].min().min() and table[["d0", "d1"]].max().max() < high


def test_a_category_looks_the_same_when_others_are_missing():
    def looks(table):
        (ax,) = bias.threshold_arrows(table).axes
        return {line.get_label(): (line.get_color(), line.get_marker()) for line in ax.lines}

    every, some = looks(moves("x")), looks(moves("x", categories=["vehicle", "spatial"]))
    assert all(some[c] == every[c] for c in ("vehicle", "spatial"))


def gains(of, values, categories):
    rows = [
        (*key, k - 1.0, k - 2.0, k + 0.5)
        for k, key in enumerate((a, b) for a in values for b in categories)
    ]
    return pd.DataFrame(rows, columns=[of, "category", "mean", "low", "high"])


def drawn(ax):
    """Per series its heights and the ends of its intervals."""
    out = {}
    for container in ax.containers:
        (line, _, (bars,)) = container
        ends = [np.reshape(segment, (-1, 2))[:, 1].tolist() for segment in bars.get_segments()]
        out[container.get_label()] = (line.get_ydata().tolist(), ends)
    return out


def test_offsets_stand_beside_the_edit_with_their_intervals():
    whats = ["rescaling", "offset with the same yes-rate", "best offset"]
    figure = bias.offset_gains(gains("what", whats, ["color", "spatial", bias.MEAN]))
    (ax,) = figure.axes
    found = drawn(ax)
    assert list(found) == whats
    assert found["best offset"] == ([5, 6, 7], [[4, 6.5], [5, 7.5], [6, 8.5]])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["color", "spatial", "mean"]
    assert ax.get_ylabel() == "change of accuracy (points)"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == whats


@pytest.mark.parametrize("edits, panels", [(["a"], 1), (["a", "b", "c"], 4), (list("abcd"), 4)])
def test_every_edit_has_a_panel_with_all_yes_and_no_questions(edits, panels):
    parts = [
        gains("gold", ["all", "Yes", "No"], ["color", bias.MEAN]).assign(edit=edit)
        for edit in edits
    ]
    figure = bias.gains_by_answer(pd.concat(parts))
    shown = [ax for ax in figure.axes if ax.axison]
    assert len(figure.axes) == panels and [ax.get_title() for ax in shown] == edits
    for ax in shown:
        found = drawn(ax)
        assert list(found) == ["all questions", "answer Yes only", "answer No only"]
        assert found["answer No only"] == ([3, 4], [[2, 4.5], [3, 5.5]])


def test_an_edit_without_a_category_leaves_its_place_empty():
    whole = gains("gold", ["all", "Yes", "No"], ["color", "spatial"]).assign(edit="a")
    part = gains("gold", ["all", "Yes", "No"], ["spatial"]).assign(edit="b")
    _, ax = bias.gains_by_answer(pd.concat([whole, part])).axes
    heights, _ = drawn(ax)["all questions"]
    assert np.isnan(heights[0]) and heights[1] == -1
