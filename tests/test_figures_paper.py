import matplotlib.pyplot as plt
import pytest

from vseam_lib.figures import paper as figures
from vseam_lib.paper import arithmetic, folds, head_lists, pope


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    assert not plt.get_fignums()


def texts(figure):
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def test_printed_and_recomputed_show_every_cell_of_both():
    averages = arithmetic.level_averages()
    figure = figures.printed_and_recomputed(averages)
    assert [ax.get_title() for ax in figure.axes] == ["LLaVA", "InstructBLIP"]
    for ax in figure.axes:
        own = averages[averages["model"] == ax.get_title()]
        drawn = [sorted(line.get_xdata()) for line in ax.lines]
        assert drawn == [sorted(own["recomputed"]), sorted(own["printed"])]
        assert ax.get_xlabel() == "accuracy (%)"
    assert texts(figure) == {
        "range of its categories", "average of Table 17", "printed in Table 3",
    }  # fmt: skip


def test_rows_of_table_18_that_do_not_fit_are_filled():
    means, spreads = folds.means(), folds.spreads()
    figure = figures.fold_differences(means, spreads)
    for ax, frame in zip(figure.axes, (means, spreads), strict=True):
        outside = next(line for line in ax.lines if line.get_label() == "printed, outside it")
        assert sorted(outside.get_xdata()) == sorted(frame[~frame["agrees"]]["printed"])
        assert "points" in ax.get_xlabel()


def test_bars_by_index_are_entries_up_and_down():
    counts = head_lists.by_index()
    figure = figures.entries_by_index(counts)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert min(heights) == -31 and max(heights) == 14
    total = sum(abs(bar.get_height()) for ax in figure.axes for bar in ax.patches)
    assert total == counts["entries"].sum()


def test_pope_points_are_the_implied_rates():
    results = pope.results()
    figure = figures.implied_rates(results)
    assert len(figure.axes) == 2
    for ax in figure.axes:
        assert len(ax.texts) == 6  # arrows
        assert ax.get_xlabel() == "implied false-positive rate (%)"
    assert {"heads from GQA", "heads from POPE", "random, unedited"} <= texts(figure)
