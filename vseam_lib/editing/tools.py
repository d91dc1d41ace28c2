"""Loads what a run edits with, for GQA or for the embedded world."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vseam_lib.editing.counterfactual import Rewriter
from vseam_lib.editing.fidelity import fidelity, resegmentation_iou, second_model_success
from vseam_lib.editing.language_model import LanguageModelRewriter
from vseam_lib.editing.pipeline import Edit, Tools
from vseam_lib.editing.powerpaint import load_inpainter
from vseam_lib.editing.rivals import OfflineRewriter
from vseam_lib.editing.segment import Segmenter, load_segmenter
from vseam_lib.editing.settings import EditSettings
from vseam_lib.sources.gqa import objects_in_images
from vseam_lib.vlm.load import load
from vseam_lib.world import oracle
from vseam_lib.world.export import is_embedded
from vseam_lib.world.judge import Judge


def rewriter_for(
    settings: EditSettings, data: Path | str, split: str, *, cache: Path | str = "build/answers"
) -> Rewriter:
    """The rewriter of a run.

    The offline rewriter knows what else is in a picture from the scene graphs, and in the embedded
    world what the scene allows.
    """
    embedded = is_embedded(data)
    vocabulary = "world" if embedded else "gqa"
    present = objects_in_images(data, split)
    if settings.rewriter != "offline":
        return LanguageModelRewriter(
            settings.rewriter,
            base_url=settings.base_url or None,
            cache=Path(cache) / "language_model.sqlite",
            vocabulary=vocabulary,
            present=present,
        )
    return OfflineRewriter(
        vocabulary=vocabulary,
        seed=settings.seed,
        present=present,
        allowed=oracle.allowed if embedded else None,
    )


def load_tools(
    settings: EditSettings,
    data: Path | str,
    split: str,
    *,
    device: str = "cpu",
) -> Tools:
    """Load rewriter, segmenter, inpainter and judge."""
    segmenter = load_segmenter(settings.segmenter, device=device, dtype=settings.dtype)
    return Tools(
        rewriter_for(settings, data, split),
        segmenter,
        load_inpainter(
            settings.inpainter, base=settings.base or None, device=device, dtype=settings.dtype
        ),
        partial(measure, segmenter, judge_for(settings, data, device=device)),
    )


def judge_for(
    settings: EditSettings, data: Path | str, *, device: str = "cpu"
) -> Callable[[Edit], bool | None] | None:
    """Who says whether an edit shows what was wanted, if anybody does.

    Raises:
        ValueError: the embedded world's judge for other data.
    """
    if not settings.judge:
        return None
    if settings.judge == "world":
        if not is_embedded(data):
            raise ValueError(
                f"{data}: the judge 'world' knows the embedded world only; expected a second "
                "model's name as editing: judge, or '' for nobody (and filter: {success: false})"
            )
        judge = Judge()
        return lambda e: oracle.success(judge, e.after, e.triple, e.counterfactual)
    second = load(settings.judge, dtype=settings.dtype, device=device)
    return lambda e: second_model_success(second, e.triple, e.before, e.after)


def measure(
    segmenter: Segmenter, judge: Callable[[Edit], bool | None] | None, edit: Edit
) -> dict[str, float | bool | None]:
    """A row of :class:`vseam_lib.editing.fidelity.FidelityReport`: all but the cosine, which
    depends on the model under analysis.
    """
    return fidelity(
        edit.before,
        edit.after,
        edit.mask,
        raw=edit.raw,
        iou=resegmentation_iou(segmenter, edit.after, edit.triple.boxes[0], edit.silhouettes[0]),
        success=judge(edit) if judge else None,
    ).row()
