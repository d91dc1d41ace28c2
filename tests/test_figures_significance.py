import matplotlib

matplotlib.use("Agg")
import math

import numpy as np
import pandas as pd
import pytest

from vseam_lib.figures import significance
from vseam_lib.figures.base import LEVEL_COLOR
from vseam_lib.triples import Category, Level

pytestmark = pytest.mark.usefixtures("closed_figures")

GROUPS = [*map(str, Category), *map(str, Level), "overall"]
AGAINST = ["original", "random remove", "w/o positive", "w/o negative"]


def grown(**changed):
    rows = [("real", 0, f, f**0.5, 0.5 / f) for f in (10, 100, 1000)]
    rows += [("other", 0, f, -0.5 * f**0.5, 0.7 / f) for f in (10, 100, 1000)]
    rows += [("chance", k, f, -0.1 * f**0.5, 0.9) for k in (1, 2) for f in (10, 100, 1000)]
    frame = pd.DataFrame(rows, columns=["comparison", "draw", "folds", "t", "p"])
    return frame.assign(**changed)


def test_growth_sets_comparisons_with_a_valid_test_apart_from_those_by_chance():
    figure = significance.fold_growth(grown(), {"real": 0.2, "other": 0.3})
    left, right = figure.axes
    real, other, *chance = left.lines[:-1]
    assert real.get_ydata() == pytest.approx(np.sqrt([10, 100, 1000]))
    assert other.get_ydata() == pytest.approx(0.5 * np.sqrt([10, 100, 1000]))
    assert real.get_color() != other.get_color() and len(chance) == 2
    assert min(real.get_linewidth(), other.get_linewidth()) > chance[0].get_linewidth()
    level = {line.get_color(): line.get_ydata()[0] for line in right.lines[4:-1]}
    assert level == {real.get_color(): 0.2, other.get_color(): 0.3}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "real", "other", "chance", "permutation test, same comparison", "5 % level",
    ]  # fmt: skip


def test_growth_shows_p_values_and_t_beyond_the_axes_at_their_edges():
    left, right = significance.fold_growth(grown(t=math.inf, p=0.0), {"real": 0.0}).axes
    assert (left.lines[0].get_ydata() == significance.LARGEST_T).all()
    assert (right.lines[0].get_ydata() == significance.SMALLEST_P).all()
    low, high = right.get_ylim()
    assert low < significance.SMALLEST_P < 1 < high


def test_error_rates_stand_beside_each_other_with_their_intervals():
    rows = [("fold t-test", f, r, r - 0.05, r + 0.05) for f, r in ((100, 0.6), (10, 0.2))]
    rows += [(name, 0, 0.05, 0.03, 0.08) for name in ("McNemar (mid-p)", "sign flips by image")]
    rates = pd.DataFrame(rows, columns=["test", "folds", "rate", "low", "high"])
    expected = pd.Series({10: 0.21, 100: 0.61})
    figure = significance.rejection_rates({"a": rates, "b": rates}, {"a": expected, "b": expected})
    assert [ax.get_title() for ax in figure.axes] == ["a", "b"]
    for ax in figure.axes:
        ticks = [tick.get_text() for tick in ax.get_xticklabels()]
        assert ticks == ["10", "100", "McNemar (mid-p)", "sign flips by image"]
        folds, *others = (c.lines[0].get_ydata().tolist() for c in ax.containers)
        assert folds == [0.2, 0.6] and others == [[0.05], [0.05]]
        assert ax.lines[0].get_ydata().tolist() == [0.21, 0.61]


def effects(**changed):
    rows = [
        (group, against, k - 4.0, k - 6.0, k - 2.0, 0.5, k % 2 == 0)
        for against in AGAINST
        for k, group in enumerate(GROUPS)
    ]
    columns = ["group", "against", "mean", "low", "high", "yes_rate", "significant"]
    return pd.DataFrame(rows, columns=columns).assign(**changed)


def test_a_forest_has_a_panel_per_baseline_and_a_row_per_group():
    figure = significance.forest(effects())
    assert [ax.get_title() for ax in figure.axes] == [f"rescaling minus {a}" for a in AGAINST]
    for ax in figure.axes:
        points = [line for line in ax.lines if line.get_marker() in ("o", "s")]
        assert [p.get_xdata()[0] for p in points] == [k - 4.0 for k in range(len(GROUPS))]
        filled = [p.get_markerfacecolor() != "white" for p in points]
        assert filled == [k % 2 == 0 for k in range(len(GROUPS))]
        assert [p.get_marker() for p in points] == ["o"] * 7 + ["s"] * 4
        yes = [line for line in ax.lines if line.get_marker() == "d"]
        assert [line.get_xdata()[0] for line in yes] == [0.5] * len(GROUPS)
    colors = [points[k].get_color() for k in (0, -1)]
    assert colors == [LEVEL_COLOR[Category.COLOR.level], "k"]
    bottom, top = figure.axes[0].get_ylim()
    assert top < bottom, "the first group is at the top"


def test_a_forest_of_some_baselines_and_groups_leaves_the_rest_out():
    some = effects()
    some = some[some["group"].isin(["color", "overall"]) & (some["against"] != "w/o negative")]
    figure = significance.forest(some)
    assert [ax.axison for ax in figure.axes] == [True, True, True, False]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["color", "overall"]
