"""What a model writes under head edits: greedy answers of one or a few tokens.

1. The first token is the most probable one after the prompt, of all edits in one replay.
2. Each further token needs a run on the sequence so far, which differs between edits: the
   distinct continuations of all questions about an image share one recording and one replay.

Exact: without edits, the same tokens as greedy ``model.generate``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor

from vseam_lib.causal.groups import Values, by_image, resume, store_key
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.replay import replay
from vseam_lib.causal.trace import record
from vseam_lib.store import Store, stored_ids
from vseam_lib.triples import check_unique
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.group import Group
from vseam_lib.vlm.prompts import template

ENDED = -1  # in place of a token id, after the end of an answer
_NUMBERS = "zero one two three four five six seven eight nine ten".split()


class Asked(Protocol):
    """What is needed of a question; :class:`~vseam_lib.triples.VQATriple` has it, too."""

    id: str
    image_id: str
    image: Path
    question: str
    answer: str
    category: str


class _OpenEnded:
    """Mixed into an adapter's class: asks for a single word or phrase."""

    def text(self, question: str) -> str:
        form = template(self.family, self.prompt, open_ended=True)
        return form.format(image=self.processor.image_token, question=question)


def open_ended(adapter: Adapter) -> Adapter:
    """The same model with the prompt of open questions (Table 8); there is only the paper's."""
    of = type(adapter)
    kind = type(f"OpenEnded{of.__name__}", (_OpenEnded, of), {})
    same = {f.name: getattr(adapter, f.name) for f in fields(adapter)}
    return kind(**same | {"prompt": "paper"})


def written(
    adapter: Adapter,
    questions: Sequence[Asked],
    edits: Mapping[str, HeadEdits],
    store: Path | str,
    *,
    tokens: int = 1,
    margin: bool = False,
) -> pd.DataFrame:
    """What the model answers to every question under every edit, greedily.

    Args:
        adapter: for open questions, of :func:`open_ended`.
        edits: name to edit; an edit of several variants becomes ``name/0``, ``name/1``, ...
        store: directory of the results; what is there is not computed again.
        tokens: length of an answer at most; it ends before with the model's end of sequence.
        margin: also the logit of Yes minus that of No as the first token.

    Returns:
        One row per question and variant: ``id, image_id, category, gold, edit, said`` (text
        without special tokens and surrounding space), with ``margin`` if asked for.

    Raises:
        ValueError: ``tokens`` below 1, or repeated ids.
    """
    if tokens < 1:
        raise ValueError(f"expected at least 1 token per answer, got {tokens}")
    check_unique(questions)
    names, variants, digest = _variants(edits)
    kind = "open" if isinstance(adapter, _OpenEnded) else "yes/no"
    about = {"prompt_of": kind, "tokens": tokens, "margin": margin, "edits": digest}
    ids = stored_ids(questions)

    def run(group: Sequence[Asked]) -> Values:
        found, first = decode(adapter, _encode(adapter, group), variants, tokens)
        values = {
            (f"token {t}", name): found[v, :, t]
            for v, name in enumerate(names)
            for t in range(tokens)
        }
        if margin:
            yes, no = adapter.answer_id("Yes"), adapter.answer_id("No")
            apart = first[..., yes] - first[..., no]
            values |= {("margin", name): apart[v] for v, name in enumerate(names)}
        return values

    kept = Store(store, store_key(adapter, "written answers", **about))
    rows = resume(by_image(adapter, questions), ids, kept, run, what="writing answers")
    table = rows.pivot(index=["id", "edit"], columns="site", values="value").reset_index()
    places = [f"token {t}" for t in range(tokens)]
    tuples = list(table[places].astype(int).itertuples(index=False, name=None))
    texts = {t: _text(adapter, t) for t in set(tuples)}
    table["said"] = [texts[t] for t in tuples]
    of = [(q.id, q.image_id, str(q.category), q.answer) for q in questions]
    head = pd.DataFrame(of, columns=["id", "image_id", "category", "gold"])
    columns = [*head.columns, "edit", "said"] + ["margin"] * margin
    return head.merge(table, on="id", validate="one_to_many")[columns]


@torch.no_grad()
def decode(
    adapter: Adapter, group: Group, edits: HeadEdits, tokens: int = 1
) -> tuple[Tensor, Tensor]:
    """Greedy answers of every variant to every question of a group.

    Returns:
        ``(V, Q, tokens)`` token ids, :data:`ENDED` from the end of sequence on, and ``(V, Q,
        vocab)`` logits of the first token.
    """
    V, Q = len(edits), len(group.last)
    first = replay(adapter, record(adapter, group), edits)  # (V, Q, vocab)
    found = torch.full((V, Q, tokens), ENDED)
    ends = _ends(adapter)
    found[..., 0] = _until(first.argmax(-1).cpu(), ends)
    for t in range(1, tokens):
        going = (found[..., t - 1] != ENDED).nonzero().tolist()
        if not going:
            break
        prefix = {(v, q): (q, tuple(found[v, q, :t].tolist())) for v, q in going}
        rows = list(dict.fromkeys(prefix.values()))
        longer = record(adapter, continued(adapter, group, rows))
        said = _until(replay(adapter, longer, edits).argmax(-1).cpu(), ends)  # (V, rows)
        for (v, q), row in prefix.items():
            found[v, q, t] = said[v, rows.index(row)]
    return found, first


def continued(adapter: Adapter, group: Group, rows: Sequence[tuple[int, Sequence[int]]]) -> Group:
    """Questions of a group, each followed by the tokens said so far.

    Args:
        rows: question, counted from 0 in the group, and token ids; a question may come often.
    """
    embed = adapter.decoder.get_input_embeddings()
    segments = group.segments
    shared = (segments == 0).nonzero()[:, 0]
    parts, ids = [group.embeds[0, shared]], [group.ids[shared]]
    for q, said in rows:
        own, more = (segments == q + 1).nonzero()[:, 0], torch.tensor(said, dtype=torch.long)
        parts.append(torch.cat([group.embeds[0, own], embed(more.to(group.embeds.device))]))
        ids.append(torch.cat([group.ids[own], more]))
    lengths = torch.tensor([len(x) for x in ids])
    return Group(
        torch.cat(parts)[None],
        torch.arange(len(lengths)).repeat_interleave(lengths),
        (lengths.cumsum(0)[1:] - 1).to(group.last.device),
        group.gold[[q for q, _ in rows]],
        group.image,
        torch.cat(ids),
    )


def normalise(text: str) -> str:
    """An answer for comparison: lower case, no articles, punctuation or extra space, numbers up to
    ten in words, as COCO-QA writes them.
    """
    words = re.findall(r"[\w'-]+", text.lower())
    words = [w for w in words if w not in ("a", "an", "the")]
    return " ".join(
        _NUMBERS[int(w)] if w.isdecimal() and int(w) < len(_NUMBERS) else w for w in words
    )


def exact_match(said: Sequence[str], gold: Sequence[str]) -> list[bool]:
    """Is each answer the right one, once both are normalised?"""
    return [normalise(a) == normalise(b) for a, b in zip(said, gold, strict=True)]


def _variants(edits: Mapping[str, HeadEdits]) -> tuple[list[str], HeadEdits, str]:
    """Names and variants of all edits, with a digest of both."""
    names = [
        name if len(edit) == 1 else f"{name}/{v}"
        for name, edit in edits.items()
        for v in range(len(edit))
    ]
    variants = HeadEdits.cat(list(edits.values()))
    numbers = (variants.scale, variants.mix, variants.swap)
    text = b"".join(x.numpy().tobytes() for x in numbers) + "|".join(names).encode()
    return names, variants, hashlib.sha256(text).hexdigest()


def _encode(adapter: Adapter, group: Sequence[Asked]) -> Group:
    """Encode questions about one image; the right answer, of which nothing is read, is a stand-in,
    since a right answer may be no word of the model's.
    """
    return adapter.encode(group[0].image, [q.question for q in group], ["Yes"] * len(group))


def _ends(adapter: Adapter) -> list[int]:
    """Token ids that end an answer."""
    known = adapter.model.generation_config.eos_token_id
    if known is None:
        known = adapter.processor.tokenizer.eos_token_id
    return list(known) if isinstance(known, Sequence) else [known]


def _until(said: Tensor, ends: Sequence[int]) -> Tensor:
    return said.masked_fill(torch.isin(said, torch.tensor(ends)), ENDED)


def _text(adapter: Adapter, ids: Sequence[int]) -> str:
    tokens = [i for i in ids if i != ENDED]
    return adapter.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
