"""The automatic filter of edits, which assists the paper's manual one (section 4.1).

1. Every measurement with a limit is compared with it; one that is missing counts as failed.
2. All reasons are recorded, not only the first.
3. A person may overrule the filter, see :mod:`vseam_lib.editing.review`.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields

import pandas as pd

from vseam_lib.triples import Category, Level

STAGES = ("asked", "rewritten", "segmented", "edited")
NOT_EDITED = "not edited"
SEVERAL = "several"
# Objects and relations are replaced or moved, so that another shape is no fault.
APPLIES_TO: dict[str, tuple[Category, ...]] = {
    "iou": tuple(c for c in Category if c.level is Level.ATTRIBUTE)
}


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits of the filter; ``None`` switches one off.

    The defaults find edits that are broken. Where nothing judges meaning, as in photographs
    without a second model, switch ``success`` off and choose the others from the distribution of
    what was measured.

    Attributes:
        max_mask_share: of the picture, 0 to 1.
        min_psnr, min_raw_psnr: outside the mask, in dB; the raw one is of the inpainter's output
            before the original is pasted back.
        max_changed, max_raw_changed: share of the pixels outside the mask, 0 to 1.
        min_ssim, min_raw_ssim: structural similarity outside the mask.
        min_inside: change inside the mask, in grey levels; an autoencoder alone makes some.
        min_iou: of the object before and after, attributes only (:data:`APPLIES_TO`).
        min_cosine: in the vision tower of the model under analysis.
        success: whether the judge must see what was wanted.
    """

    max_mask_share: float | None = None
    min_psnr: float | None = 20.0
    max_changed: float | None = None
    min_ssim: float | None = None
    min_raw_psnr: float | None = 15.0
    max_raw_changed: float | None = None
    min_raw_ssim: float | None = None
    min_inside: float | None = 8.0
    min_iou: float | None = 0.5
    min_cosine: float | None = None
    success: bool = True

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "success":
                if not isinstance(value, bool):
                    raise ValueError(f"filter: expected success true or false, got {value!r}")
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value)):
                raise ValueError(
                    f"filter: expected {f.name} to be a finite number, or null to switch it off, "
                    f"got {value!r}"
                )

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Thresholds:
        """The limits of a profile's mapping; what it leaves out keeps its default.

        Raises:
            ValueError: naming an unknown key or a value that is no limit.
        """
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"filter: unknown limit {key!r}, expected {', '.join(known)}{hint}"
                )
        return cls(**values)

    def limits(self) -> dict[str, tuple[str, float]]:
        """Measurement to ``("min" or "max", limit)``, of the numbers that have one."""
        found = {}
        for f in fields(self):
            side, _, measure = f.name.partition("_")
            value = getattr(self, f.name)
            if side in ("min", "max") and value is not None:
                found[measure] = (side, float(value))
        return found

    @property
    def measures(self) -> list[str]:
        """The measurements that the filter looks at."""
        return [*self.limits(), *(["success"] if self.success else [])]


def accept(
    reports: pd.DataFrame,
    thresholds: Thresholds,
    *,
    applies_to: Mapping[str, Collection[Category]] = APPLIES_TO,
) -> pd.DataFrame:
    """Decide on every edit.

    Args:
        reports: one row per triple with ``category`` and the columns of
            :class:`~vseam_lib.editing.fidelity.FidelityReport` that have a limit; of
            :func:`~vseam_lib.editing.pipeline.edit_triples` also ``stage`` and ``reason``, and
            then rows of triples that were not edited are rejected with that reason.
        applies_to: measurement to the only categories in which its limit holds.

    Returns:
        The rows with three more columns: ``accepted`` (bool), ``failed`` (measurements, separated
        by commas, or :data:`NOT_EDITED`) and ``reasons`` (with values and limits, separated by
        semicolons); the latter two are empty for accepted edits.

    Raises:
        ValueError: a missing column, an unknown measurement or category in ``applies_to``, or a
            verdict that is neither true, false nor missing.
    """
    scopes = {name: {Category(c) for c in some} for name, some in applies_to.items()}
    known = {f.name.removeprefix("min_").removeprefix("max_") for f in fields(Thresholds)}
    if unknown := set(scopes) - known:
        raise ValueError(
            f"applies_to: unknown measurement {sorted(unknown)[0]!r}, expected one of "
            f"{', '.join(sorted(known))}"
        )
    edited = [True] * len(reports)
    if "stage" in reports:
        edited = list(reports["stage"] == "edited")
    missing = [name for name in ["category", *thresholds.measures] if name not in reports]
    if missing and any(edited):
        raise ValueError(
            f"expected the columns {', '.join(missing)} to filter by, got "
            f"{', '.join(map(str, reports))}; measure them, or switch their limits off (null, or "
            "false for success)"
        )
    failures = [
        _failures(row, thresholds, scopes) if was_edited else {NOT_EDITED: _why_not(row)}
        for row, was_edited in zip(reports.to_dict("records"), edited, strict=True)
    ]
    return reports.assign(
        accepted=pd.Series([not f for f in failures], index=reports.index, dtype=bool),
        failed=pd.Series([",".join(f) for f in failures], index=reports.index, dtype=object),
        reasons=pd.Series(["; ".join(f.values()) for f in failures], reports.index, dtype=object),
    )


def _why_not(row: Mapping[str, object]) -> str:
    """The pipeline's reason, if it gave one."""
    reason = row.get("reason")
    return NOT_EDITED if pd.isna(reason) or not reason else str(reason)


def _failures(
    row: Mapping[str, object], thresholds: Thresholds, scopes: Mapping[str, set[Category]]
) -> dict[str, str]:
    """Measurement to what is wrong with it, empty for an edit to be accepted."""
    category = Category(row["category"])
    limits = thresholds.limits()
    found = {}
    for name in thresholds.measures:
        if category not in scopes.get(name, Category):
            continue
        value = row[name]
        if name == "success":
            if pd.isna(value):
                found[name] = "no judge's verdict"
            elif value not in (True, False):
                raise ValueError(
                    f"expected a verdict (true or false) in the column success, got {value!r}"
                )
            elif not value:
                found[name] = "the judge does not see what was wanted"
            continue
        side, limit = limits[name]
        if pd.isna(value):
            found[name] = f"{name} was not measured"
        elif side == "min" and value < limit:
            found[name] = f"{name} {value:.3g} below {limit:.3g}"
        elif side == "max" and value > limit:
            found[name] = f"{name} {value:.3g} above {limit:.3g}"
    return found


def acceptance_rate(table: pd.DataFrame) -> pd.DataFrame:
    """How many edits are accepted, one row per category that occurs.

    Args:
        table: of :func:`accept`.

    Returns:
        Columns ``category, edited, accepted`` and ``share`` of the edited ones (0 to 1, NaN if
        none was edited).
    """
    rows = []
    for category, part in _by_category(table):
        edited = int((part["failed"] != NOT_EDITED).sum())
        accepted = int(part["accepted"].sum())
        share = accepted / edited if edited else float("nan")
        rows.append((category, edited, accepted, share))
    return pd.DataFrame(rows, columns=["category", "edited", "accepted", "share"])


def reason_counts(table: pd.DataFrame) -> pd.DataFrame:
    """What becomes of the edits: every edit counts once, so that the counts sum to all edits.

    Args:
        table: of :func:`accept`.

    Returns:
        Columns ``category, reason, n``; ``reason`` is ``"accepted"``, the only measurement that
        failed, or ``"several"``. An edit that a person rejected against the filter counts as
        ``"a person"``.
    """
    rows = []
    for category, part in _by_category(table[table["failed"] != NOT_EDITED]):
        counts: Counter[str] = Counter()
        for accepted, failed in zip(part["accepted"], part["failed"], strict=True):
            single = SEVERAL if "," in failed else failed or "a person"
            counts["accepted" if accepted else single] += 1
        rows += [(category, reason, n) for reason, n in counts.most_common()]
    return pd.DataFrame(rows, columns=["category", "reason", "n"])


def funnel(table: pd.DataFrame) -> pd.DataFrame:
    """How many triples reach each stage of the pipeline, tidy, for the figure of that name.

    Args:
        table: of :func:`accept` on :func:`~vseam_lib.editing.pipeline.edit_triples`.

    Returns:
        Columns ``category, stage, model, n`` with the stages :data:`STAGES` and ``"accepted"``;
        ``model`` is empty. What Eq. 4 selects depends on a model and can be appended as a stage
        ``"selected"``.

    Raises:
        ValueError: an unknown stage.
    """
    if unknown := set(table["stage"]) - set(STAGES):
        raise ValueError(f"expected stages in {STAGES}, got {sorted(unknown)[0]!r}")
    rows = []
    for category, part in _by_category(table):
        reached = part["stage"].map(STAGES.index)
        rows += [(category, s, "", int((reached >= k).sum())) for k, s in enumerate(STAGES)]
        rows.append((category, "accepted", "", int(part["accepted"].sum())))
    return pd.DataFrame(rows, columns=["category", "stage", "model", "n"])


def _by_category(table: pd.DataFrame):
    """Category names with their rows, in the order of :class:`Category`."""
    names = table["category"].astype(str)
    return [(str(c), table[names == c]) for c in Category if (names == c).any()]
