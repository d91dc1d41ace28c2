# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Information flow
#
# **The paper.** Section 3 patches activations of the run on the clean image into the run on the
# edited image ({eq}`eq-1`) and reads how much of the right answer's logit comes back ({eq}`eq-2`,
# {eq}`eq-3`), on triples that the edit turns from right to wrong ({eq}`eq-4`). Figure 3 patches all
# image tokens, or all tokens after them, layer by layer; Figure 4 (and 11-14) patches the outputs
# of self-attention and MLP at single words. Section 5.2 concludes that early layers understand the
# image, middle layers align it with the text, and late layers work on the question alone; that text
# takes more layers than vision; that objects are aligned before attributes and relations; that the
# words asked about matter in the middle layers; and that at the last token attention peaks before
# the MLP.
#
# **This chapter** patches every layer, site and word role of every selected triple, exactly, and
# checks the five conclusions with conditions fixed in the code below.

# %% tags=["parameters"]
model: str = "tiny-llava"  # a shipped model, a model directory, or a Hugging Face id
data: str = "build/world/gqa"  # directory in GQA's layout
split: str = "analysis"  # prefix of the question file
edit: str = "powerpaint"  # corrupted images: powerpaint, oracle, gaussian-30, ..., or a folder
compare: list = ["oracle", "gaussian-30"]  # other corruptions that the curves are held against
n_compare: int = 24  # questions per category of that comparison; 0 takes all
editing: dict = {}  # settings of the edits that differ from the defaults
edits: str = "build/edits"  # where edited images are kept
categories: list = [
    "color",
    "material",
    "animal",
    "vehicle",
    "indoor",
    "action",
    "spatial",
]  # which
n: int = 64  # questions per category; 0 takes all
seed: int = 0  # of the sample
dtype: str = "float32"  # float32, bfloat16 or float64
device: str = "cpu"  # cpu or cuda
store: str = "build/store"  # where per-sample results are kept
prompt: str = "paper"  # paper (Table 8) or as_released
select: str = "eq4"  # eq4 (paper) patches triples that the edit turns wrong, all (as released) all
metric: str = "logit"  # logit (paper), probability, or difference of the two answers' logits
budget_mib: float = 0.0  # MiB that a batch of variants may take; 0 decides by device

# %% tags=["hide-input"]
from itertools import combinations

import numpy as np
import pandas as pd
from myst_nb import glue

from vseam_lib import figures, paper, tables
from vseam_lib.causal import flow as fl
from vseam_lib.causal import patching
from vseam_lib.editing.corrupt import corrupted
from vseam_lib.editing.settings import EditSettings
from vseam_lib.figures import flow as pictures
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.stats import Band, clustered_band
from vseam_lib.triples import Category, Level, sample
from vseam_lib.verdict import judge
from vseam_lib.vlm import spans
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.load import load

figures.use_style()
lenient = {"on_missing_box": "keep", "clip_boxes": True}
triples = sample(read_gqa(data, split, categories=categories, **lenient), n or None, seed)
where = {"data": data, "split": split, "root": edits, "device": device}
settings = EditSettings.of(editing)
edited = corrupted(edit, triples, settings, **where).pictures
asked, triples = len(triples), [t for t in triples if t.id in edited]
if not triples:
    raise ValueError(f"none of {asked} questions has a picture edited by {edit!r}")
vlm = load(model, dtype=dtype, device=device, prompt=prompt)
L = vlm.n_layers
glue("n_layers", L, display=False)
unit = {
    "logit": "change of the answer's logit",
    "probability": "change of P(answer)",
    "difference": "change of the logit difference",
}[metric]
print(f"{asked} questions asked, {len(triples)} of them with an accepted edited image ({edit}).")

# %% tags=["hide-input"]
run = fl.information_flow(vlm, triples, edited, store, select=select, budget_mib=budget_mib or None)

# %% [markdown]
# ## Which triples are patched
#
# Only a triple that is answered rightly on the clean and wrongly on the edited image has an effect
# to restore. The total effect is what patching everything would give back: the clean run's value
# minus the corrupted run's. The paper does not print these counts.

# %% tags=["hide-input"]
counts = run.answers.groupby("category", sort=False).agg(
    questions=("id", "size"), clean=("clean", "sum"), selected=("selected", "sum")
)
chosen = run.answers[run.answers["selected"]]
total = chosen.groupby("category")[metric].mean().reindex(counts.index)
names = [c for c in counts.index if counts.loc[c, "selected"] > 0]
if not names:
    raise ValueError(
        "no triple is answered rightly on the clean and wrongly on the edited image, so there is "
        "nothing to restore; use more questions (n), other edits, or select='all'"
    )
glue("selected", int(counts["selected"].sum()), display=False)
counts["total effect"] = total
tables.show(
    counts.reset_index().rename(
        columns={"clean": "right on the clean image", "selected": "patched"}
    ),
    {"total effect": "{:.2f}"},
    "Triples, and the mean total effect of the edit on those patched",
)


# %% [markdown]
# ## Image and question, layer by layer
#
# The form of Figure 3. Left, all image tokens after a layer are replaced by their clean states;
# where the curve is high, the answer is still to be read from the image tokens. Right, all tokens
# after the image are replaced; where the curve is high, what the answer needs has arrived in the
# text. Shaded are 95 % intervals that resample images.


# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-flow", "caption": "Effect of patching the residual stream after each layer at all image tokens (left) and at all tokens after the image (right), per category (the form of Figure 3)."}, "image": {"alt": "Two panels of curves over layers, image tokens falling and question tokens rising."}}
def band(site, span, category):
    values, images = run.array(site, span, metric, category)
    if len(set(images)) < 2:  # one image has no spread to resample
        return Band(*[values.mean(0)] * 3)
    return clustered_band(values, images)


curves = {span: {c: band("block", span, c) for c in names} for span in fl.SPANS}
pictures.flow_curves(curves, label=unit)

# %% [markdown]
# Patching the whole question after the last layer restores the clean answer exactly. Patching the
# image after layer 0 restores all but what the question has read from it in that layer. The ends of
# the two panels agree up to that; where the first column below falls short of the second, layer 0
# has read the difference.

# %% tags=["hide-input"]
ends = pd.DataFrame(
    [(c, curves["image"][c].mean[0], curves["question"][c].mean[-1], total[c]) for c in names],
    columns=["category", "image, layer 0", "question, last layer", "total effect"],
)
tables.show(
    ends, dict.fromkeys(ends.columns[1:], "{:.3f}"), "Ends of the curves, and the total effect"
)

# %% [markdown]
# ## How early each level is aligned
#
# To compare categories whose edits have effects of different size, each curve is divided by its
# category's total effect. The hand-over is where the question's curve first reaches one half.


# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-levels", "caption": "Share of the total effect that patching restores, averaged over the categories of each concept level."}, "image": {"alt": "Two panels of curves over layers, one line per concept level, between 0 and 1."}}
def share(span, category):
    return np.array([v / total[category] for v in curves[span][category]])


of_level = {lv: [c for c in names if Category(c).level is lv] for lv in Level}
shares = {
    span: {
        str(lv): Band(*np.mean([share(span, c) for c in cs], axis=0))
        for lv, cs in of_level.items()
        if cs
    }
    for span in fl.SPANS
}
pictures.flow_curves(shares, label="share of the total effect", reference=1.0)


# %% tags=["hide-input"]
def crossings(q, v):
    """Layers at which the question's curve passes 0.1, 0.5, 0.9 and the image's 0.9, 0.5, 0.1."""
    up = [fl.crossing_layer(q, s, rising=True) for s in (0.1, 0.5, 0.9)]
    return up + [fl.crossing_layer(v, s, rising=False) for s in (0.9, 0.5, 0.1)]


handover = pd.DataFrame(
    [(c, *crossings(share("question", c)[0], share("image", c)[0])) for c in names],
    columns=["category", "q10", "q50", "q90", "v90", "v50", "v10"],
)
handover["text takes"] = handover["q90"] - handover["q10"]
handover["vision takes"] = handover["v10"] - handover["v90"]
glue("half_question", float(handover["q50"].mean()), display=False)
glue("half_image", float(handover["v50"].mean()), display=False)
tables.show(
    handover[["category", "v50", "q50", "text takes", "vision takes"]].rename(
        columns={"v50": "image falls to half", "q50": "question reaches half"}
    ),
    dict.fromkeys(
        ["image falls to half", "question reaches half", "text takes", "vision takes"], "{:.2f}"
    ),
    "In layers: where the curves pass one half, and how many they take from 10 to 90 per cent",
)

# %% [markdown]
# ## Attention and MLP at the words
#
# The form of Figures 4 and 11-14: the output of one module of one layer is replaced by its clean
# counterpart at the words of one role. The paper scales each panel to its own maximum; here all
# panels share one scale, the share of the category's total effect. Grey: no such word in the
# questions of a category. Every position before the image has an effect of exactly 0 and is left
# out.


# %% tags=["hide-input"]
def role_shares(site):
    return {c: fl.role_table(run, site, c, metric) / total[c] for c in names}


attention, mlp = role_shares("attn"), role_shares("mlp")
# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-attn", "caption": "Share of the total effect restored by the attention output of one layer at the words of one role (the form of Figure 4)."}, "image": {"alt": "Word roles by layers for each category, attention, green."}}
pictures.role_maps(attention, "attn", label="share of the total effect")
# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-mlp", "caption": "The same for the MLP's output."}, "image": {"alt": "Word roles by layers for each category, MLP, blue."}}
pictures.role_maps(mlp, "mlp", label="share of the total effect")

# %% [markdown]
# ## Where the peaks are
#
# The layer with the largest effect, at the words asked about (the object, and what is asked of it)
# and at the last token. The paper's layers, of 32, are given as shares of the depth beside ours.


# %% tags=["hide-input"]
def peak(tables_of, role, category):
    table = tables_of[category]
    return int(table.loc[role].to_numpy().argmax()) if role in table.index else None


def depth(layer):
    """The middle of a layer as a share of the model's depth."""
    return (layer + 0.5) / L


peaks = pd.DataFrame(
    [
        (c, role, peak(attention, role, c), peak(mlp, role, c))
        for role in ("object", "attribute", "last token")
        for c in names
        if peak(attention, role, c) is not None
    ],
    columns=["category", "role", "attention", "MLP"],
)
tables.show(peaks, caption="Layer of the largest effect")

# %% tags=["hide-input"]
printed = paper.depths().set_index(["what", "model"])
family = {"llava": "LLaVA", "instructblip": "InstructBLIP"}.get(vlm.family, "LLaVA")
rows = []
for name, role, column, row in (
    ("aspect words, attention", ("object", "attribute"), "attention", ("aspect tokens", "both")),
    ("aspect words, MLP", ("object", "attribute"), "MLP", ("aspect tokens", "both")),
    ("last token, attention", ("last token",), "attention", ("last token attention", family)),
    ("last token, MLP", ("last token",), "MLP", ("last token MLP", family)),
):
    ours = peaks[peaks["role"].isin(role)][column].map(depth)
    rows.append(
        (name, ours.median(), ours.min(), ours.max(), printed.loc[row, "begin"], printed.loc[row, "end"])
    )  # fmt: skip
peak_depths = pd.DataFrame(
    rows, columns=["peak", "median", "lowest", "highest", "paper from", "paper to"]
)
tables.show(
    peak_depths,
    dict.fromkeys(peak_depths.columns[1:], "{:.2f}"),
    f"Depth of the peaks over categories, as a share of all layers; paper: {family}",
)

# %% [markdown]
# ## One case, token by token
#
# The first patched triple of the first category, with the effect of every token and layer. Blue
# restores the answer, red moves further away from it.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-case", "caption": "One triple: clean and edited picture, and the effect of patching each token after the image, in each layer, for attention, MLP and the residual stream."}, "image": {"alt": "Two pictures and three token by layer heat maps."}}
case = next(t for t in triples if t.id in set(chosen["id"]) and str(t.category) == names[0])
pair = patching.record_pair(vlm, case.image, edited[case.id], case.question, case.answer)
group = pair.clean.group
each = {str(i): [i] for i in range(group.image[1], len(group.ids))}
at = patching.masks(each, len(group.ids))
case_maps = {
    site: patching.effects(
        vlm, pair, patching.patched_logits(vlm, pair, site, at, budget_mib=budget_mib or None)
    )[metric].double().cpu().numpy()
    for site in ("attn", "mlp", "block")
}  # fmt: skip
pictures.token_maps(
    [open_image(case.image), open_image(edited[case.id])],
    case.boxes[:1],
    case_maps,
    spans.question_tokens(vlm, group),
    label=unit,
)

# %% [markdown]
# ## Does the kind of corruption matter?
#
# The paper's reason for semantic edits (section 1, after Zhang and Nanda): noise takes an image off
# the distribution that the model knows, and patching from there can point to other parts of the
# model. Here the same questions are patched again with other corruptions: the exact edit, where
# there is one, and noise over the whole image. Each curve is divided by the mean total effect of
# its own corruption.

# %% tags=["hide-input"]
fewer = sample(triples, n_compare or None, seed)
flows = {}
for name in [edit, *compare]:
    pictures_of = corrupted(name, fewer, settings, **where).pictures
    some = [t for t in fewer if t.id in pictures_of]
    flows[name] = fl.information_flow(
        vlm, some, pictures_of, store, select=select, budget_mib=budget_mib or None
    )


def pooled(flow, span):
    """Share of the total effect over all patched triples, with its interval."""
    values, images = flow.array("block", span, metric)
    scale = flow.answers.loc[flow.answers["selected"], metric].mean()
    if len(set(images)) < 2:
        return Band(*[values.mean(0) / scale] * 3)
    return Band(*(v / scale for v in clustered_band(values, images)))


def roles_of(flow, site):
    """Roles x layers over all patched triples, as one long vector."""
    part = flow.effects[(flow.effects["site"] == site) & (flow.effects["metric"] == metric)]
    return part.groupby(["span", "layer"])["value"].mean()


# A corruption that turns no answer from right to wrong leaves nothing to patch.
patched = {name: f for name, f in flows.items() if f.answers["selected"].sum() > 1}
# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-corruption", "caption": "Share of the total effect that patching the residual stream restores, over all patched triples, for each kind of corruption."}, "image": {"alt": "Two panels of curves over layers, one line per kind of corruption."}}
by_corruption = {
    span: {name: pooled(flow, span) for name, flow in patched.items()} for span in fl.SPANS
}
pictures.corruption_curves(by_corruption, label="share of the total effect")

# %% tags=["hide-input"]
rows = []
for name, flow in flows.items():
    selected = flow.answers[flow.answers["selected"]]
    row = {
        "corruption": name,
        "questions": len(flow.answers),
        "turned wrong": len(selected),
        "total effect": selected[metric].mean(),
    }
    if name in patched:
        q, v = by_corruption["question"][name].mean, by_corruption["image"][name].mean
        row["image falls to half"] = fl.crossing_layer(v, 0.5, rising=False)
        row["question reaches half"] = fl.crossing_layer(q, 0.5, rising=True)
        for site, title in (("attn", "attention"), ("mlp", "MLP")):
            both = pd.concat([roles_of(patched[edit], site), roles_of(flow, site)], axis=1)
            row[f"{title}, rank correlation"] = both.corr("spearman").iloc[0, 1]
    rows.append(row)
corruptions = pd.DataFrame(rows).set_index("corruption")
shown = ["total effect", "image falls to half", "question reaches half"]
correlations = [c for c in corruptions.columns if c.endswith("correlation")]
tables.show(
    corruptions.reset_index(),
    dict.fromkeys([*shown, *correlations], "{:.2f}"),
    "Corruptions, their hand-over in layers, and how well their maps of word roles by layers "
    f"agree with those of {edit} (Spearman)",
)

# %% tags=["hide-input"]
noise = [name for name in compare if name in patched and name != "oracle"]
noise = noise if edit in patched else []
apart = {
    name: (corruptions.loc[name, shown[1:]] - corruptions.loc[edit, shown[1:]]).abs().max()
    for name in noise
}
has_exact = bool(noise) and "oracle" in patched and edit != "oracle"
judge(
    "noise-shows-another-flow",
    {
        "handover": all(bool(layers >= 1) for layers in apart.values()) if noise else None,
        "roles": all(
            bool(
                (
                    corruptions.loc[name, correlations] < corruptions.loc["oracle", correlations]
                ).all()
            )
            for name in noise
        )
        if has_exact
        else None,
    },
    ours="; ".join(f"{name}: one half up to {x:.1f} layers away" for name, x in apart.items())
    or "no other corruption turned enough answers to be patched",
)

# %% [markdown]
# ## Verdicts
#
# Layers are compared as shares of the depth. A median over categories decides where nothing else is
# said.

# %% tags=["hide-input"]
early = printed.loc[("visual understanding", "both"), "end"]
late = printed.loc[("the question answers", "both"), "begin"]


def at_depth(span, d):
    """Median share of the total effect when patching after the layer that ends at a depth."""
    layer = min(L - 1, max(0, round(d * L) - 1))
    return np.median([share(span, c)[0][layer] for c in names])


image_early, image_late = at_depth("image", early), at_depth("image", late)
question_late = at_depth("question", late)
judge(
    "flow-in-three-stages",
    {
        "image_early": image_early >= 0.5,
        "image_late": image_late < 0.5,
        "question_late": question_late >= 0.5,
    },
    ours=f"the image restores {image_early:.0%} after the early and {image_late:.0%} after the "
    f"middle layers, the question {question_late:.0%} after the middle ones",
)

# %% tags=["hide-input"]
text_takes, vision_takes = handover["text takes"].median(), handover["vision takes"].median()
judge(
    "text-takes-more-layers",
    {
        "median": bool(text_takes > vision_takes),
        "most": bool((handover["text takes"] > handover["vision takes"]).mean() > 0.5),
    },
    ours=f"{text_takes:.1f} layers of {L} for the question, {vision_takes:.1f} for the image",
)

# %% tags=["hide-input"]
half = handover.set_index("category")["q50"]
by_level = {str(lv): half[cs].mean() for lv, cs in of_level.items() if cs}
earlier = {
    other: bool(by_level["object"] < by_level[other])
    if {"object", other} <= set(by_level)
    else None
    for other in ("attribute", "relation")
}
judge(
    "objects-aligned-first",
    {f"before_{other}s": met for other, met in earlier.items()},
    ours="the question reaches half at layer "
    + ", ".join(f"{layer:.1f} ({level}s)" for level, layer in by_level.items()),
)

# %% tags=["hide-input"]
aspect = printed.loc[("aspect tokens", "both")]
asked_words = peaks[peaks["role"] != "last token"]
deepest = {name: depth(asked_words[name].median()) for name in ("attention", "MLP")}
judge(
    "aspect-words-in-the-middle",
    {
        name.lower(): bool(aspect["begin"] <= at <= aspect["end"]) if len(asked_words) else None
        for name, at in deepest.items()
    },
    ours="median peak at "
    + ", ".join(f"{at:.2f} of the depth ({name})" for name, at in deepest.items()),
)

# %% tags=["hide-input"]
final = peaks[peaks["role"] == "last token"]
judge(
    "attention-peaks-before-mlp",
    {
        "median": bool(final["attention"].median() < final["MLP"].median()),
        "most": bool((final["attention"] < final["MLP"]).mean() > 0.5),
    },
    ours=f"median peak in layer {final['attention'].median():.1f} (attention) and "
    f"{final['MLP'].median():.1f} (MLP) of {L}",
)


# %% tags=["hide-input"]
def likeness(maps):
    """Mean rank correlation of two categories' maps, over the word roles that both have."""
    return np.mean(
        [
            np.corrcoef(*(maps[c].loc[same].stack().rank() for c in pair))[0, 1]
            for pair in combinations(maps, 2)
            if len(same := maps[pair[0]].dropna().index.intersection(maps[pair[1]].dropna().index))
        ]
    )


alike = {"attention": likeness(attention), "MLP": likeness(mlp)} if len(names) > 1 else {}
judge(
    "alike-across-tasks",
    {name.lower(): bool(alike[name] >= 0.8) if alike else None for name in ("attention", "MLP")},
    ours="mean rank correlation " + ", ".join(f"{x:.2f} ({t})" for t, x in alike.items())
    if alike
    else "one category cannot be compared",
)

# %% [markdown]
# ## What differs from the paper
#
# - Edits are filtered automatically (chapter 1), not by hand. The parameter `edit` takes other
#   corruptions, or a folder of edited images named by question id.
# - The released code counts image tokens from position 0; here the image's positions are found from
#   the token ids, and positions before the image have an effect of exactly 0.
# - Figure 4 of the paper scales each panel to its own maximum, which hides how little single modules
#   restore. Here one scale serves all.
# - In InstructBLIP the question reaches the image tokens before the decoder: its Q-Former has read
#   it. "Image tokens" are then its queries, and part of the alignment happens outside the layers
#   shown.
# - Everything is exact; tests hold every shortcut against one plain forward pass per patch.
