import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest

from vseam_lib import paper
from vseam_lib.data_dependence import printed_curve
from vseam_lib.figures import rescaling as drawing
from vseam_lib.triples import Category, Level

pytestmark = pytest.mark.usefixtures("closed_figures")

LEVELS = [str(level) for level in Level]
SPAN = ["mean", "low", "high"]


def curve(slope):
    rows = [
        (group, share, slope * share, 0.5, share)
        for group in [*LEVELS, "average"]
        for share in (0.1, 0.5, 1.0)
    ]
    return pd.DataFrame(rows, columns=["group", "share", "mean", "sd", "recovered"])


def test_gains_have_a_panel_per_level_with_both_test_sets_and_the_paper():
    printed = printed_curve(paper.table(4))
    figure = drawing.gain_curves({"same": curve(4), "other": curve(-1)}, printed)
    assert len(figure.axes) == 4
    for ax, level in zip(figure.axes, LEVELS, strict=False):
        same, other, theirs = (line for line in ax.lines if line.get_label()[0] != "_")
        assert ax.get_ylabel() == f"{level}: change of accuracy (points)"
        assert list(same.get_xdata()) == [10, 50, 100]
        assert list(same.get_ydata()) == pytest.approx([0.4, 2, 4])
        assert list(other.get_ydata()) == pytest.approx([-0.1, -0.5, -1])
        own = printed[printed["group"] == level]
        assert list(theirs.get_ydata()) == list(own["mean"])
        assert len(ax.collections) == 2, "a band of one SD each"
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert (band.min(), band.max()) == pytest.approx((-0.1, 4.5))
    last = figure.axes[3]
    assert list(last.lines[0].get_ydata()) == pytest.approx([10, 50, 100])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["same", "other", "paper"]


def test_gains_of_one_level_have_no_empty_panels():
    only = curve(1)[lambda t: t["group"].isin(["attribute", "average"])]
    figure = drawing.gain_curves({"same": only}, printed_curve(paper.table(19)))
    assert len([ax for ax in figure.axes if ax.axison]) == 2


def test_settings_have_a_panel_each_and_the_own_one_is_marked():
    values = {"K": [1, 5, 10], "form": ["minmax", "equal"], "strength": [0.5, 1.0]}
    rows = [
        (what, value, measure, k + shift, k + shift - 1, k + shift + 1)
        for what, some in values.items()
        for k, value in enumerate(some)
        for shift, measure in ((0, "accuracy"), (10, "yes-rate"))
    ]
    changes = pd.DataFrame(rows, columns=["what", "value", "measure", *SPAN])
    figure = drawing.setting_changes(changes, {"K": 5, "form": "minmax", "strength": 2.0})
    for ax, (what, some) in zip(figure.axes, values.items(), strict=True):
        assert [t.get_text() for t in ax.get_xticklabels()] == [
            f"{v:g}" if what != "form" else v for v in some
        ]
        accuracy, yes = (container.lines[0].get_ydata() for container in ax.containers)
        assert list(accuracy) == list(range(len(some)))
        assert list(yes) == [10 + k for k in range(len(some))]
    stripes = [
        [line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 7]
        for ax in figure.axes
    ]
    assert stripes == [[1], [0], []], "strength 2 is not among those shown"


def test_choices_are_side_by_side_for_accuracy_and_yes_rate():
    groups, edits = ["all questions", *LEVELS], ["rescaling", "equal", "greedy", "random"]
    rows = [
        (group, edit, measure, float(k), k - 1.0, k + 1.0)
        for group in groups
        for k, edit in enumerate(edits)
        for measure in ("accuracy", "yes-rate")
    ]
    figure = drawing.compared(pd.DataFrame(rows, columns=["group", "edit", "measure", *SPAN]))
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "change of accuracy (points)", "change of yes-rate (points)",
    ]  # fmt: skip
    for ax in figure.axes:
        assert len(ax.containers) == len(edits)
        for k, container in enumerate(ax.containers):
            assert list(container.lines[0].get_xdata()) == [k] * len(groups)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == groups
    assert [t.get_text() for t in figure.legends[0].get_texts()] == edits
    heights = [set(np.round(c.lines[0].get_ydata(), 6)) for c in figure.axes[0].containers]
    assert len(set.union(*heights)) == 16, "no two marks on one height"


def test_transfer_marks_the_cells_whose_interval_excludes_zero():
    categories = [str(c) for c in Category]
    rows = [
        (a, b, 3.0, 1.0 if (a, b) == ("color", "spatial") else -1.0, 5.0)
        for a in categories
        if a != "animal"
        for b in categories[::-1]
    ]
    figure = drawing.transfer_map(pd.DataFrame(rows, columns=["heads_of", "category", *SPAN]))
    ax = figure.axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == categories
    assert [t.get_text() for t in ax.get_yticklabels()] == [c for c in categories if c != "animal"]
    texts = {(t.get_position()): t.get_text() for t in ax.texts}
    assert len(texts) == 42
    assert texts[6, 0] == "+3.0*" and set(texts.values()) == {"+3.0*", "+3.0"}
    assert sum(text.endswith("*") for text in texts.values()) == 1
    frames = [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in ax.patches]
    assert frames == [(-0.5, -0.5, 2, 2), (1.5, 1.5, 3, 2), (4.5, 3.5, 2, 2)]
    assert figure.axes[1].get_ylabel() == "change of accuracy (points)"


def test_a_transfer_without_some_cells_leaves_them_empty():
    rows = [("color", "color", 0.0, -1.0, 1.0), ("spatial", "action", 0.2, -1.0, 1.0)]
    figure = drawing.transfer_map(pd.DataFrame(rows, columns=["heads_of", "category", *SPAN]))
    assert len(figure.axes[0].texts) == 2
