"""How pictures are edited: one record that a profile fills and that keys every stored edit."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from vseam_lib.editing.plan import PROMPTS


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """Everything that changes an edited picture; the defaults are the embedded run's.

    Attributes:
        rewriter: ``"offline"``, or the name of a language model.
        base_url: of the language model's server; empty for OpenAI's.
        segmenter: a shipped model's name or a SAM checkpoint.
        inpainter: a shipped model's name, a PowerPaint directory or a Hugging Face id.
        base: the Stable-Diffusion-inpainting directory that a PowerPaint v1 overlay goes on.
        prompt: ``"phrase"``, or ``"question"`` (paper).
        steps: denoising steps.
        guidance: classifier-free guidance scale; 1 or less runs without.
        fitting: how closely a shape-guided edit keeps to its mask, from 0 to 1.
        window: side in pixels of the part of a picture that the inpainter sees, if the mask with
            some surroundings fits into it; 0 shows it the whole picture.
        composite: paste the original back outside the mask; False as released.
        judge: who says whether an edit shows what was wanted: ``"world"`` for the classifier of the
            embedded world, the name of a second vision-language model, or empty for nobody.
        dtype: of segmenter and inpainter, ``float32`` or ``bfloat16``.
        seed: of all; every item's own seed follows from it and the item's id.
        filter: limits of the automatic filter, see
            :class:`vseam_lib.editing.acceptance.Thresholds`.
    """

    rewriter: str = "offline"
    base_url: str = ""
    segmenter: str = "tiny-sam"
    inpainter: str = "tiny-powerpaint"
    base: str = ""
    prompt: str = "phrase"
    steps: int = 4
    guidance: float = 3.0
    fitting: float = 1.0
    window: int = 64
    composite: bool = True
    judge: str = "world"
    dtype: str = "bfloat16"
    seed: int = 0
    filter: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prompt not in PROMPTS:
            raise ValueError(f"editing: expected a prompt in {PROMPTS}, got {self.prompt!r}")
        if self.steps < 1:
            raise ValueError(f"editing: expected at least 1 step, got {self.steps}")
        if self.window < 0:
            raise ValueError(f"editing: expected a window of 0 pixels or more, got {self.window}")
        if not 0 <= self.fitting <= 1:
            raise ValueError(f"editing: expected a fitting degree in [0, 1], got {self.fitting}")

    @classmethod
    def of(cls, values: Mapping[str, object]) -> EditSettings:
        """The settings of a profile's ``editing`` mapping; what it leaves out keeps its default.

        Raises:
            ValueError: naming an unknown key or a value of another type.
        """
        known = {f.name: f for f in fields(cls)}
        for key, value in values.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(
                    f"editing: unknown setting {key!r}, expected {', '.join(known)}{hint}"
                )
            default = getattr(cls(), key)
            kinds = (int, float) if isinstance(default, float) else type(default)
            if isinstance(default, Mapping):
                kinds = Mapping
            if not isinstance(value, kinds) or isinstance(value, bool) != isinstance(default, bool):
                raise ValueError(f"editing: expected {key} like {default!r}, got {value!r}")
        return cls(**values)

    def picture_key(self) -> dict[str, object]:
        """All settings that change a picture or what is measured of it; the filter's limits do
        not.
        """
        return {k: v for k, v in asdict(self).items() if k != "filter"}
