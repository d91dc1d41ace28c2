import numpy as np
import pandas as pd
import pytest

from vseam_lib.editing import acceptance as a
from vseam_lib.editing.fidelity import FidelityReport
from vseam_lib.triples import Category

GOOD = FidelityReport(
    mask_share=0.1, psnr=np.inf, changed=0.0, ssim=1.0, raw_psnr=25.0, raw_changed=0.2,
    raw_ssim=0.8, inside=40.0, iou=0.9, cosine=0.95, success=True,
).row()  # fmt: skip


def reports(*changes):
    rows = [{"id": str(k), "category": "color", **GOOD, **c} for k, c in enumerate(changes)]
    return pd.DataFrame(rows)


def test_a_good_edit_is_accepted_without_a_reason():
    table = a.accept(reports({}), a.Thresholds())
    assert table["accepted"].tolist() == [True]
    assert table[["failed", "reasons"]].values.tolist() == [["", ""]]


def test_every_failed_limit_is_a_reason_with_value_and_limit():
    (row,) = a.accept(
        reports({"psnr": 17.26, "iou": 0.314, "success": False, "changed": 0.4}),
        a.Thresholds(max_changed=0.25),
    ).to_dict("records")
    assert not row["accepted"]
    assert row["failed"] == "psnr,changed,iou,success"
    assert row["reasons"] == (
        "psnr 17.3 below 20; changed 0.4 above 0.25; iou 0.314 below 0.5; "
        "the judge does not see what was wanted"
    )


@pytest.mark.parametrize(
    "limit, value, wrong",
    [
        ("max_mask_share", 0.5, 0.51),
        ("min_psnr", 30, 29.9),
        ("max_changed", 0.5, 0.51),
        ("min_ssim", 0.5, 0.49),
        ("min_raw_psnr", 30, 29.9),
        ("max_raw_changed", 0.5, 0.51),
        ("min_raw_ssim", 0.5, 0.49),
        ("min_inside", 3, 2.9),
        ("min_iou", 0.5, 0.49),
        ("min_cosine", 0.5, 0.49),
    ],
)
def test_a_limit_itself_passes_what_lies_beyond_fails_and_null_switches_off(limit, value, wrong):
    off = {f: None for f in a.Thresholds.__dataclass_fields__ if f != "success"}
    only = a.Thresholds.of({**off, "success": False, limit: value})
    measure = limit[4:]
    assert only.measures == [measure]
    table = a.accept(reports({measure: value}, {measure: wrong}), only)
    assert table["accepted"].tolist() == [True, False]
    assert table["failed"].tolist() == ["", measure]
    none = a.Thresholds.of({**off, "success": False})
    assert a.accept(reports({measure: wrong}), none)["accepted"].all()


def test_the_shape_is_judged_for_attributes_only_unless_asked():
    table = reports(*({"category": str(c), "iou": 0.1} for c in Category))
    accepted = a.accept(table, a.Thresholds())["accepted"].tolist()
    assert accepted == [False, False, True, True, True, True, True]
    everywhere = a.accept(table, a.Thresholds(), applies_to={})
    assert not everywhere["accepted"].any()
    narrower = a.accept(table, a.Thresholds(), applies_to={"iou": ["animal"]})
    assert (~narrower["accepted"]).tolist() == [False, False, True, *[False] * 4]


@pytest.mark.parametrize("missing", [None, np.nan])
def test_what_was_not_measured_is_not_accepted(missing):
    table = a.accept(reports({"iou": missing}, {"success": missing}), a.Thresholds())
    assert table["reasons"].tolist() == ["iou was not measured", "no judge's verdict"]
    off = a.Thresholds(min_iou=None, success=False)
    assert a.accept(table, off)["accepted"].all()


def test_a_column_that_a_limit_needs_is_demanded():
    bare = reports({}).drop(columns=["success", "iou"])
    with pytest.raises(ValueError, match="expected the columns iou, success to filter by"):
        a.accept(bare, a.Thresholds())
    assert a.accept(bare, a.Thresholds(min_iou=None, success=False))["accepted"].all()


def pipeline_table():
    """As the pipeline gives it, with triples that were not edited."""
    return pd.DataFrame(
        [
            {"category": "color", "stage": "edited", "reason": "", **GOOD},
            {"category": "color", "stage": "edited", "reason": "", **GOOD, "success": False},
            {"category": "color", "stage": "asked", "reason": "no rival colour"},
            {"category": "action", "stage": "segmented", "reason": "one box"},
            {"category": "action", "stage": "rewritten", "reason": np.nan},
        ],
        index=[10, 11, 12, 13, 14],
    )


def test_triples_that_were_not_edited_are_rejected_with_the_pipelines_reason():
    table = a.accept(pipeline_table(), a.Thresholds())
    assert table["accepted"].dtype == bool
    assert table["accepted"].tolist() == [True, False, False, False, False]
    assert table["reasons"].tolist()[2:] == ["no rival colour", "one box", "not edited"]
    assert list(table.index) == [10, 11, 12, 13, 14]


def test_nothing_edited_needs_no_measurements():
    none = pipeline_table().iloc[2:][["category", "stage", "reason"]]
    assert not a.accept(none, a.Thresholds())["accepted"].any()


def test_the_rate_is_of_the_edited_per_category():
    rates = a.acceptance_rate(a.accept(pipeline_table(), a.Thresholds()))
    assert rates["category"].tolist() == ["color", "action"]
    assert rates[["edited", "accepted"]].values.tolist() == [[2, 1], [0, 0]]
    assert rates["share"].iloc[0] == 0.5 and np.isnan(rates["share"].iloc[1])


def test_the_funnel_counts_who_reached_each_stage():
    counts = a.funnel(a.accept(pipeline_table(), a.Thresholds()))
    wide = counts.pivot(index="category", columns="stage", values="n")
    stages = [*a.STAGES, "accepted"]
    assert wide.loc["color", stages].tolist() == [3, 2, 2, 2, 1]
    assert wide.loc["action", stages].tolist() == [2, 2, 1, 0, 0]
    with pytest.raises(ValueError, match="got 'painted'"):
        a.funnel(pipeline_table().assign(stage="painted", accepted=True))


def test_every_edit_counts_once_among_the_reasons():
    changes = [{}, {"iou": 0.1}, {"iou": 0.2}, {"iou": 0.2, "psnr": 3}, {"category": "action"}]
    table = a.accept(reports(*changes), a.Thresholds())
    table.loc[4, "accepted"] = False  # as a person may decide
    counts = a.reason_counts(table)
    assert counts["n"].sum() == len(changes)
    found = {(r.category, r.reason): r.n for r in counts.itertuples()}
    assert found == {
        ("color", "iou"): 2,
        ("color", "accepted"): 1,
        ("color", "several"): 1,
        ("action", "a person"): 1,
    }
    assert a.reason_counts(a.accept(pipeline_table(), a.Thresholds()))["n"].sum() == 2


def test_wrong_limits_are_refused():
    with pytest.raises(ValueError, match="unknown limit 'min_psn'.*did you mean 'min_psnr'"):
        a.Thresholds.of({"min_psn": 3})
    for value in ("20", True, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="expected min_psnr to be a finite number, or null"):
            a.Thresholds.of({"min_psnr": value})
    for value in (1, None, "yes"):
        with pytest.raises(ValueError, match="expected success true or false"):
            a.Thresholds.of({"success": value})
    with pytest.raises(ValueError, match="unknown measurement 'IoU'"):
        a.accept(reports({}), a.Thresholds(), applies_to={"IoU": []})
    with pytest.raises(ValueError, match="'colour' is not a valid Category"):
        a.accept(reports({}), a.Thresholds(), applies_to={"iou": ["colour"]})
    with pytest.raises(ValueError, match="expected a verdict"):
        a.accept(reports({"success": 0.7}), a.Thresholds())
