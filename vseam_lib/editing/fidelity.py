"""How faithful an edit is (paper, section 4.1 and appendix C.1).

1. In the eyes of the model under analysis: cosine of the features of its own vision tower
   (Tables 10-12), :func:`vseam_lib.editing.vision.similarity`.
2. In pixels: what changed outside the mask, where nothing should, and inside, where something
   must. Pasting the original back outside the mask hides what the inpainter did there, so its raw
   output is measured as well.
3. In shape: whether a segmenter finds the object again, :func:`resegmentation_iou`.
4. In meaning: whether the picture shows what was wanted, judged by somebody else: a classifier
   (in the embedded world :func:`vseam_lib.world.oracle.success`) or a second model,
   :func:`second_model_success`.

SAM's own estimate of its mask's quality is no help: it stays high for objects that are gone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vseam_lib.editing.pictures import check_mask, check_rgb
from vseam_lib.editing.segment import Segmenter
from vseam_lib.triples import Box, VQATriple
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.images import open_image

VISIBLE = 8  # grey levels; a pixel that changed by more in any channel counts as changed
SSIM_WINDOW = 7  # pixels, the side of the window that structural similarity compares


class OutsideChange(NamedTuple):
    """Change outside a mask.

    Attributes:
        psnr: peak signal-to-noise ratio in dB; infinite where nothing changed.
        changed: share (0 to 1) of the pixels of which a channel changed by more than
            :data:`VISIBLE` grey levels.
    """

    psnr: float
    changed: float


def outside_change(
    before: Image.Image | np.ndarray, after: Image.Image | np.ndarray, mask: np.ndarray
) -> OutsideChange:
    """How much changed outside the mask, where an edit should change nothing.

    A mask that covers the whole picture leaves nothing that could have changed; a limit on
    :attr:`FidelityReport.mask_share` finds such edits.

    Args:
        before, after: RGB pictures of one size.
        mask: ``(H, W)`` bool, where the edit was allowed to change the picture.

    Raises:
        TypeError, ValueError: pictures that are not RGB or differ in size, or a mask that is none
            or empty.
    """
    old, new, mask = _pair(before, after, mask)
    if mask.all():
        return OutsideChange(float("inf"), 0.0)
    old, new = old[~mask], new[~mask]  # (n, 3)
    with np.errstate(divide="ignore"):  # equal pixels have an infinite ratio
        psnr = peak_signal_noise_ratio(old, new, data_range=255)
    changed = (np.abs(old.astype(int) - new) > VISIBLE).any(-1).mean()
    return OutsideChange(float(psnr), float(changed))


def outside_similarity(
    before: Image.Image | np.ndarray,
    after: Image.Image | np.ndarray,
    mask: np.ndarray,
    *,
    margin: int = 5,
) -> float:
    """Mean structural similarity (at most 1) outside the mask (Wang et al., 2004).

    Args:
        before, after, mask: as of :func:`outside_change`.
        margin: pixels around the mask that are left out, so that no window reaches into it.

    Returns:
        NaN where the mask leaves no room for a window.

    Raises:
        TypeError, ValueError: as :func:`outside_change`, or a margin that is too small.
    """
    if margin <= SSIM_WINDOW // 2:
        raise ValueError(
            f"expected a margin above {SSIM_WINDOW // 2} pixels, half the window of structural "
            f"similarity, got {margin}"
        )
    old, new, mask = _pair(before, after, mask)
    # Beyond the picture's border lies no mask, so the border itself is not eroded.
    square = np.ones((3, 3), bool)  # like the windows; a cross would spare their corners
    far = ndimage.binary_erosion(~mask, square, iterations=margin, border_value=1)
    if not far.any() or min(mask.shape) < SSIM_WINDOW:
        return float("nan")
    _, local = structural_similarity(
        old, new, win_size=SSIM_WINDOW, data_range=255, channel_axis=2, full=True
    )  # (H, W, 3)
    return float(local[far].mean())


def inside_change(
    before: Image.Image | np.ndarray, after: Image.Image | np.ndarray, mask: np.ndarray
) -> float:
    """Mean absolute change inside the mask, in grey levels over pixels and channels.

    Raises:
        TypeError, ValueError: as :func:`outside_change`.
    """
    old, new, mask = _pair(before, after, mask)
    return float(np.abs(old.astype(int) - new)[mask].mean())


def _pair(before, after, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    old, new = check_rgb(before, of="before"), check_rgb(after, of="after")
    if old.shape != new.shape:
        raise ValueError(
            f"expected pictures of one size, got {old.shape[1]} x {old.shape[0]} before and "
            f"{new.shape[1]} x {new.shape[0]} after; scale the edit back to the original's size"
        )
    return old, new, check_mask(mask, (old.shape[1], old.shape[0]))


def resegmentation_iou(
    segmenter: Segmenter, after: Image.Image, box: Box, silhouette: np.ndarray
) -> float:
    """Intersection over union (0 to 1) of an object's mask with the one found after the edit.

    High where only the paint changed, as it should be for colours and materials; an edit that
    replaces or moves the object lowers it rightly.

    Args:
        segmenter: gives masks of boxes.
        box: of the object before the edit.
        silhouette: ``(H, W)`` bool, the object before the edit.

    Raises:
        TypeError, ValueError: as :meth:`Segmenter.masks`, or a silhouette of another size.
    """
    height, width, _ = check_rgb(after, of="after").shape
    silhouette = check_mask(silhouette, (width, height), of="silhouette")
    found = segmenter.masks(after, [box], allow_empty=True)[0]
    return float((found & silhouette).sum() / (found | silhouette).sum())


@torch.no_grad()
def second_model_success(
    adapter: Adapter,
    triple: VQATriple,
    before: Image.Image | Path,
    after: Image.Image | Path,
) -> bool | None:
    """Whether a second model, too, sees the answer reversed; ``None`` if it cannot tell.

    A model that answers the question wrongly on the original picture cannot tell. It must not be
    the model under analysis: that would select edits by the effect that is to be measured.
    """
    if _says_yes(adapter, before, triple.question) != (triple.answer == "Yes"):
        return None
    return _says_yes(adapter, after, triple.question) != (triple.answer == "Yes")


def _says_yes(adapter: Adapter, image: Image.Image | Path, question: str) -> bool:
    inputs = adapter.processor(
        images=[open_image(image)], text=[adapter.text(question)], return_tensors="pt"
    ).to(adapter.device)
    pixels = inputs.pop("pixel_values").to(adapter.model.dtype)
    logits = adapter.model(**inputs, pixel_values=pixels, use_cache=False).logits[0, -1]
    return bool(logits[adapter.answer_id("Yes")] > logits[adapter.answer_id("No")])


@dataclass(frozen=True, kw_only=True)
class FidelityReport:
    """What is known of one edit; ``None`` or NaN where something was not measured.

    Attributes:
        mask_share: of the picture, 0 to 1.
        psnr, changed: outside the mask, see :class:`OutsideChange`.
        ssim: outside the mask, see :func:`outside_similarity`.
        raw_psnr, raw_changed, raw_ssim: the same of the inpainter's output before the original is
            pasted back.
        inside: mean absolute change inside the mask, in grey levels.
        iou: of the object before and after, 0 to 1; for edits that keep its shape.
        cosine: in the vision tower of the model under analysis.
        success: whether an independent judge sees what was wanted.
    """

    mask_share: float
    psnr: float
    changed: float
    ssim: float
    raw_psnr: float
    raw_changed: float
    raw_ssim: float
    inside: float
    iou: float | None = None
    cosine: float | None = None
    success: bool | None = None

    def row(self) -> dict[str, float | bool | None]:
        """Names to values, for a table or a JSON file."""
        return asdict(self)


def fidelity(
    before: Image.Image,
    after: Image.Image,
    mask: np.ndarray,
    *,
    raw: Image.Image,
    iou: float | None = None,
    cosine: float | None = None,
    success: bool | None = None,
) -> FidelityReport:
    """Measure the pixels of an edit, and file what the models say of it beside them.

    Args:
        raw: the inpainter's output before pasting, of the original's size; where nothing was
            pasted, the edit itself.
        iou: of :func:`resegmentation_iou`.
        cosine: of :func:`vseam_lib.editing.vision.similarity`.
        success: of :func:`second_model_success` or :func:`vseam_lib.world.oracle.success`.

    Raises:
        TypeError, ValueError: as :func:`outside_change`.
    """
    edit, own = (outside_change(before, picture, mask) for picture in (after, raw))
    return FidelityReport(
        mask_share=float(mask.mean()),
        psnr=edit.psnr,
        changed=edit.changed,
        ssim=outside_similarity(before, after, mask),
        raw_psnr=own.psnr,
        raw_changed=own.changed,
        raw_ssim=outside_similarity(before, raw, mask),
        inside=inside_change(before, after, mask),
        iou=iou,
        cosine=cosine,
        success=success,
    )


def summarise(reports: pd.DataFrame, by: str = "category") -> pd.DataFrame:
    """Averages per group in a form that tables can show.

    A mean of ratios in dB is infinite as soon as one edit left the outside untouched, so those
    edits are counted and the ratio is the median of the others.

    Args:
        reports: rows of :meth:`FidelityReport.row`, possibly fewer columns, with a column ``by``.

    Returns:
        Rows in the order of first occurrence: ``by``, ``n``, and of the columns there are:
        ``untouched`` (share with an infinite ``psnr``), ``psnr`` and ``raw_psnr`` (median in dB
        of the finite ones, NaN if there are none), and means of all others; ``success`` becomes a
        share.

    Raises:
        ValueError: no column ``by``.
    """
    if by not in reports:
        raise ValueError(f"expected a column {by!r}, got {', '.join(map(str, reports))}")
    rows = []
    for group, part in reports.groupby(by, sort=False):
        row: dict[str, object] = {by: group, "n": len(part)}
        if "psnr" in part:
            row["untouched"] = float(np.isinf(part["psnr"].astype(float)).mean())
        for name in [f.name for f in fields(FidelityReport) if f.name in part]:
            values = part[name].astype(float).replace(np.inf, np.nan)
            row[name] = float(values.median() if "psnr" in name else values.mean())
        rows.append(row)
    return pd.DataFrame(rows)
