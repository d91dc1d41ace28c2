import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from vseam_lib.editing.acceptance import STAGES
from vseam_lib.editing.perturb import METHODS
from vseam_lib.figures import editing
from vseam_lib.triples import Box, Category

CATEGORIES = [str(c) for c in Category]
MASK = np.zeros((20, 30), bool)
MASK[5:12, 8:20] = True


pytestmark = pytest.mark.usefixtures("closed_figures")


def picture(colour):
    return Image.new("RGB", (30, 20), colour)


def shown(ax):
    return np.asarray(ax.images[0].get_array())


def edit(**changes):
    return {
        "category": "color",
        "question": "Is the car red?",
        "counterfactual": "Is the car green?",
        "before": picture("red"),
        "edited": picture("green"),
        "mask": MASK,
        "boxes": (Box(8, 5, 12, 7), Box(0, 0, 4, 4)),
        "oracle": picture("lime"),
    } | changes


def test_the_gallery_has_a_row_per_edit_with_box_and_mask_on_the_original():
    rows = [edit(), edit(category="action", oracle=None, question="Is the $5 car red?")]
    figure = editing.edit_gallery(rows)
    figure.canvas.draw()  # formulas are set, and fail, when drawn
    axes = np.array(figure.axes).reshape(2, 3)
    assert [ax.get_title() for ax in axes[0]] == [
        "original\nIs the car red?", "semantic edit\nIs the car green?", "exact edit\n",
    ]  # fmt: skip
    assert axes[1, 0].get_title() == r"Is the \$5 car red?"
    assert [line[0].get_ylabel() for line in axes] == ["color", "action"]
    for ax, colour in zip(axes[0], ((255, 0, 0), (0, 128, 0), (0, 255, 0)), strict=True):
        assert (shown(ax) == colour).all()
    assert not axes[1, 2].images, "no exact edit"
    solid, dashed = axes[0, 0].patches
    assert (*solid.get_xy(), solid.get_width(), solid.get_height()) == (7.5, 4.5, 12, 7)
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert not axes[0, 1].patches and not axes[0, 1].collections, "the edit itself stays clear"
    lines = np.concatenate([p.vertices for p in axes[0, 0].collections[0].get_paths()])
    assert lines.min(0).tolist() == [7.5, 4.5] and lines.max(0).tolist() == [19.5, 11.5]
    assert axes[0, 0].get_xlim() == (-0.5, 29.5), "the outline does not widen the picture"


def test_a_mask_at_the_pictures_border_is_outlined_all_around():
    figure = editing.edit_gallery([edit(mask=np.ones_like(MASK))])
    (path,) = figure.axes[0].collections[0].get_paths()
    assert path.vertices.min(0).tolist() == [-0.5, -0.5]
    assert path.vertices.max(0).tolist() == [29.5, 19.5]


def test_the_gallery_reads_files_and_needs_no_boxes_or_exact_edit(tmp_path):
    row = edit()
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    row["edited"].save(tmp_path / "edited.png")
    plain = {k: row[k] for k in ("question", "counterfactual", "before")}
    plain |= {"mask": tmp_path / "mask.png", "edited": tmp_path / "edited.png"}
    figure = editing.edit_gallery(pd.DataFrame([plain]))
    assert len(figure.axes) == 2
    assert (shown(figure.axes[1]) == (0, 128, 0)).all()
    assert figure.axes[0].collections and not figure.axes[0].patches


def strip(*methods, question="Is the sky blue?", **columns):
    rows = [{"question": question, "method": m, "picture": picture("blue")} for m in methods]
    return pd.DataFrame(rows).assign(**columns)


def test_the_strip_has_a_column_per_method_and_a_row_per_question():
    first = strip("original", *METHODS, "oracle")
    second = strip("original", "masking", question="Is the sky grey?")
    figure = editing.perturbation_strip(pd.concat([first, second]))
    axes = np.array(figure.axes).reshape(2, 13)
    labels = [ax.get_title().replace("\n", " ") for ax in axes[0]]
    assert labels == ["original", *(m.label for m in METHODS.values()), "exact edit"]
    assert [line[0].get_ylabel() for line in axes] == ["Is the sky blue?", "Is the sky grey?"]
    with_picture = [bool(ax.images) for ax in axes[1]]
    assert [labels[k] for k in np.flatnonzero(with_picture)] == ["original", "masking"]


def test_the_strip_writes_the_cosine_where_it_is_known():
    figure = editing.perturbation_strip(strip("original", "masking", cosine=[np.nan, 0.51239]))
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "cos 0.512"]


def cosines():
    return pd.DataFrame(
        [
            (c, m, 0.9 - 0.05 * k, 0.85 - 0.05 * k, 0.92 - 0.05 * k, paper)
            for c, paper in (("color", 0.7), ("spatial", np.nan))
            for k, m in enumerate([*METHODS, "oracle"])
        ],
        columns=["category", "method", "mean", "low", "high", "paper"],
    )


def test_cosines_have_a_bar_with_its_interval_and_the_papers_diamond():
    figure = editing.cosine_bars(cosines())
    color, spatial = figure.axes
    assert [ax.get_title() for ax in figure.axes] == ["color", "spatial"]
    assert [bar.get_width() for bar in color.patches] == pytest.approx(
        [0.9 - 0.05 * k for k in range(12)]
    )
    interval = color.collections[0].get_segments()[2]
    assert interval[:, 0].tolist() == pytest.approx([0.75, 0.82])
    (diamonds,) = [line for line in color.lines if line.get_marker() == "D"]
    assert list(diamonds.get_xdata()) == [0.7] * 12
    assert not [line for line in spatial.lines if line.get_marker() == "D"], "never printed"
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["paper"]
    assert [t.get_text() for t in color.get_yticklabels()][0] == "Gaussian noise 10"
    assert color.yaxis_inverted(), "the first method is at the top"
    kinds = {to_hex(bar.get_facecolor()) for bar in color.patches}
    assert len(kinds) == len(editing.KIND_COLOR)


def test_a_negative_cosine_is_in_view():
    table = cosines().assign(low=-0.3)
    assert editing.cosine_bars(table).axes[0].get_xlim()[0] < -0.3


def counts(categories=CATEGORIES, models=("tiny-llava", "tiny-instructblip")):
    stages = [*STAGES, "accepted"]
    rows = [(c, s, "", 100 - 10 * k) for c in categories for k, s in enumerate(stages)]
    rows += [(c, "selected", m, 20 + k) for c in categories for k, m in enumerate(models)]
    return pd.DataFrame(rows, columns=["category", "stage", "model", "n"])


def test_the_funnel_has_a_panel_per_category_and_a_bar_per_stage_and_model():
    table = counts().sample(frac=1, random_state=0)
    figure = editing.funnel(table)
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == CATEGORIES
    wanted = [*STAGES, "accepted", "Eq. 4 tiny-instructblip", "Eq. 4 tiny-llava"]
    labels = [t.get_text() for t in panels[0].get_yticklabels()]
    assert sorted(labels) == sorted(wanted) and labels[:5] == wanted[:5]
    numbers = dict(zip(labels, (bar.get_width() for bar in panels[3].patches), strict=True))
    assert numbers["asked"] == 100 and numbers["accepted"] == 60
    assert numbers["Eq. 4 tiny-llava"] == 20 and numbers["Eq. 4 tiny-instructblip"] == 21
    assert [t.get_text().strip() for t in panels[0].texts][:2] == ["100", "90"]
    assert not figure.axes[-1].axison, "eight places, seven categories"


def test_a_category_that_no_model_was_asked_about_has_no_bar_there():
    table = counts(["color", "action"], ["m"])
    table = table[~((table["category"] == "action") & (table["stage"] == "selected"))]
    color, action = editing.funnel(table).axes
    assert len(action.texts) == 5
    assert color.yaxis_inverted() and action.yaxis_inverted(), "the first stage is at the top"


def test_a_funnel_that_widens_is_refused():
    for stage, message in (
        ("edited", "'edited' than 'segmented'"),
        ("selected", "than 'accepted'"),
    ):
        table = counts()
        table.loc[table["stage"] == stage, "n"] = 99
        with pytest.raises(ValueError, match=message):
            editing.funnel(table)


def sweep():
    rows = [
        (measure, steps, guidance, composite, steps / 100 + guidance)
        for measure in ("success", "raw_psnr")
        for guidance in (7.5, 2.0)
        for composite in (True, False)
        for steps in (20, 5, 10)
    ]
    table = pd.DataFrame(rows, columns=["measure", "steps", "guidance", "composite", "mean"])
    return table.assign(low=table["mean"] - 0.1, high=table["mean"] + 0.1)


def test_the_sweep_has_a_line_per_guidance_dashed_where_nothing_is_pasted():
    figure = editing.fidelity_sweep(sweep())
    success, psnr = figure.axes
    assert success.get_ylabel() == "share that shows what was wanted"
    assert psnr.get_ylabel() == "PSNR outside, raw (dB)"
    lines = {line.get_label(): line for line in success.lines}
    assert list(lines) == [
        "guidance 2, not pasted", "guidance 2", "guidance 7.5, not pasted", "guidance 7.5",
    ]  # fmt: skip
    assert list(lines["guidance 2"].get_xdata()) == [5, 10, 20], "sorted"
    assert list(lines["guidance 2"].get_ydata()) == pytest.approx([2.05, 2.1, 2.2])
    assert [line.get_linestyle() for line in success.lines] == ["--", "-", "--", "-"]
    assert len({line.get_color() for line in success.lines}) == 2
    assert len({line.get_marker() for line in success.lines}) == 2
    assert len(success.collections) == 4, "a band each"
    assert len(figure.legends[0].get_texts()) == 4


def test_the_sweep_leaves_infinite_ratios_out():
    table = sweep().drop(columns=["low", "high"])
    table.loc[table["composite"], "mean"] = np.inf
    figure = editing.fidelity_sweep(table)
    (line,) = [x for x in figure.axes[0].lines if x.get_label() == "guidance 2"]
    assert np.isnan(line.get_ydata()).all()
    assert not figure.axes[0].collections


def reasons():
    rows = [
        ("action", "success", 1), ("action", "accepted", 3), ("color", "accepted", 5),
        ("color", "iou", 2), ("color", "several", 2), ("color", "a person", 1),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["category", "reason", "n"])


def test_reasons_fill_every_bar_with_the_accepted_first():
    figure = editing.acceptance_reasons(reasons())
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["color (n = 10)", "action (n = 4)"]
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names[0] == "accepted" and names[-2:] == ["rejected: several", "rejected: a person"]
    assert sorted(names[1:3]) == ["rejected: iou", "rejected: success"]
    widths = {c.get_label(): [bar.get_width() for bar in c] for c in ax.containers}
    assert widths["accepted"] == pytest.approx([50, 75])
    assert widths["rejected: iou"] == pytest.approx([20, 0])
    assert np.sum(list(widths.values()), axis=0) == pytest.approx([100, 100])


def test_neighbouring_reasons_differ_in_lightness():
    many = [("color", r, 1) for r in ("accepted", "iou", "success", "psnr", "several", "a person")]
    table = pd.DataFrame(many, columns=["category", "reason", "n"])
    bars = editing.acceptance_reasons(table).axes[0].containers
    grey = [np.dot(to_rgb(c[0].get_facecolor()), (0.299, 0.587, 0.114)) for c in bars]
    assert np.abs(np.diff(grey)).min() > 0.15


@pytest.mark.parametrize(
    "draw, table, missing",
    [
        (editing.edit_gallery, pd.DataFrame([edit()]), "mask"),
        (editing.perturbation_strip, strip("original"), "picture"),
        (editing.cosine_bars, cosines(), "paper"),
        (editing.funnel, counts(), "model"),
        (editing.fidelity_sweep, sweep(), "composite"),
        (editing.acceptance_reasons, reasons(), "n"),
    ],
)
def test_tables_without_a_column_or_a_row_are_refused(draw, table, missing):
    with pytest.raises(ValueError, match=f"missing: {missing}"):
        draw(table.drop(columns=missing))
    with pytest.raises(ValueError, match="at least one row"):
        draw(table.iloc[:0])


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match="expected 30 x 20 pixels"):
        editing.edit_gallery([edit(mask=MASK.T)])
    with pytest.raises(ValueError, match="an original picture in every row"):
        editing.edit_gallery([edit(before=None)])
    with pytest.raises(ValueError, match="got 'gauss'"):
        editing.perturbation_strip(strip("original", "gauss"))
    with pytest.raises(ValueError, match="one picture per question and method"):
        editing.perturbation_strip(strip("masking", "masking"))
    with pytest.raises(ValueError, match="got 'gauss'"):
        editing.cosine_bars(cosines().assign(method="gauss"))
    with pytest.raises(ValueError, match="one row per category and method"):
        editing.cosine_bars(pd.concat([cosines(), cosines()]))
    with pytest.raises(ValueError, match="got 'painted'"):
        editing.funnel(counts().assign(stage="painted"))
    with pytest.raises(ValueError, match="one count per category, stage and model"):
        editing.funnel(pd.concat([counts(), counts()]))
    with pytest.raises(ValueError, match="one row per measure"):
        editing.fidelity_sweep(pd.concat([sweep(), sweep()]))
