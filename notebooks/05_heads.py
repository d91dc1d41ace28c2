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
# # Key attention heads
#
# **The paper.** Section 4.2 masks every attention head in turn by the mean of the other heads of
# its layer ({eq}`eq-5`), reads the change of the right answer's probability ({eq}`eq-6`), and
# averages it over the questions answered rightly and over those answered wrongly ({eq}`eq-7`). The
# K heads whose masking costs most on the right ones are *positive*, the K whose masking gains most
# on the wrong ones *negative*. Tables 2 and 13 list them. Section 5.2 concludes that the two kinds
# are mutually exclusive, that positive heads are shared within a concept level but differ between
# levels, and that negative heads generalise across levels. Appendix F (Table 14) adds that positive
# heads look at the object asked about and negative heads at the background.
#
# **This chapter** does the same, exactly, for every head and question, says how far the lists depend
# on the images that were drawn and on the kind of mask, and checks the four conclusions with
# conditions fixed in the code below.

# %% tags=["parameters"]
model: str = "tiny-llava"  # a shipped model, a model directory, or a Hugging Face id
data: str = "build/world/gqa"  # directory in GQA's layout
split: str = "analysis"  # prefix of the question file
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
k: float = 10  # heads per set; below 1, a share of all heads
seed: int = 0  # of the sample
dtype: str = "float32"  # float32, bfloat16 or float64
device: str = "cpu"  # cpu or cuda
store: str = "build/store"  # where per-sample results are kept
prompt: str = "paper"  # paper (Table 8) or as_released
mask: str = "mean"  # by the mean of the other heads (paper), zero, dataset (mean) or resample
score: str = "signed"  # signed (paper) or relu (as released)
mask_n: int = 8  # questions per category on which the other masks are compared
edit: str = "powerpaint"  # edited images: powerpaint, oracle, gaussian-30, ..., or a folder
n_compare: int = 24  # questions per category asked about edited images; 0 takes all
editing: dict = {}  # settings of the edits that differ from the defaults
edits: str = "build/edits"  # where edited images are kept
attention_of: str = "image"  # share of the attention on image tokens (image) or of all (all)
budget_mib: float = 0.0  # MiB that a batch of variants may take; 0 decides by device

# %% tags=["hide-input"]
from itertools import combinations

import numpy as np
import pandas as pd
from myst_nb import glue
from scipy.stats import spearmanr

from vseam_lib import figures, paper, tables
from vseam_lib.causal import attention
from vseam_lib.causal import control_variate as cv
from vseam_lib.causal import heads as hd
from vseam_lib.causal import ranking as rank
from vseam_lib.causal import screening as sc
from vseam_lib.causal.chance import summarise
from vseam_lib.causal.groups import by_image, encode_group
from vseam_lib.causal.trace import record
from vseam_lib.editing.corrupt import corrupted, on_edited
from vseam_lib.editing.settings import EditSettings
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.stats import clustered_mean
from vseam_lib.triples import Category, by_category, sample
from vseam_lib.verdict import judge
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.load import load

figures.use_style()
# Absent objects may lack boxes, and some of GQA's leave the image.
lenient = {"on_missing_box": "keep", "clip_boxes": True}
triples = sample(read_gqa(data, split, categories=categories, **lenient), n or None, seed)
vlm = load(model, dtype=dtype, device=device, prompt=prompt)
k_heads = rank.resolve_k(k, len(vlm.heads))
glue("n_heads", len(vlm.heads), display=False)
glue("k_share", 100 * k_heads / len(vlm.heads), display=False)

# %% tags=["hide-input"]
effects = hd.sweep(vlm, triples, store, mask=mask, seed=seed, budget_mib=budget_mib or None)
image_of = {t.id: t.image_id for t in triples}
paper_model = "InstructBLIP" if vlm.family == "instructblip" else "LLaVA"
theirs_name = f"paper ({paper_model})"

# %% [markdown]
# ## Right and wrong answers
#
# {eq}`eq-7` averages over two sets of questions. Where the model is seldom wrong, negative heads are
# read off few questions, and a category without wrong answers has none.

# %% tags=["hide-input"]
scores, sizes = {}, []
for category, members in by_category(triples).items():
    own = effects.of(members)
    sizes.append((str(category), len(members), int(own.right.sum()), int((~own.right).sum())))
    if own.right.any() and not own.right.all():
        scores[str(category)] = rank.causal_scores(own, score)
sizes = pd.DataFrame(sizes, columns=["category", "questions", "right", "wrong"])
left_out = [c for c in sizes["category"] if c not in scores]
if left_out:
    print("No wrong (or no right) answers, so no heads for:", ", ".join(left_out))
if not scores:
    raise ValueError(
        "no category has both right and wrong answers, so Eq. 7 has nothing to average; use more "
        "questions (n), or a model that can answer some of them"
    )
sets = {c: rank.top_heads(s, k, overlap="both") for c, s in scores.items()}
tables.show(sizes, caption="Sizes of D_correct and D_incorrect (Eq. 7)")

# %% [markdown]
# ## Where the heads are
#
# Blue means that masking the head lowers the probability of the right answer, red that it raises
# it. Outlined are the positive heads in the first figure and the negative heads in the second. A
# category with few wrong answers has large means over them; the colours saturate beyond the scale.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-positive", "caption": "Mean change of P(answer) when a head is masked, over questions answered rightly. Outlined: the K positive heads."}, "image": {"alt": "Layer by head heat maps per category over rightly answered questions."}}
figures.head_maps(
    {c: s.c_correct for c, s in scores.items()},
    {c: list(sets[c].positive) for c in sets},
    label="change of P(answer), right questions",
)
# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-negative", "caption": "The same over questions answered wrongly. Outlined: the K negative heads."}, "image": {"alt": "Layer by head heat maps per category over wrongly answered questions."}}
figures.head_maps(
    {c: s.c_incorrect for c, s in scores.items()},
    {c: list(sets[c].negative) for c in sets},
    label="change of P(answer), wrong questions",
)
# %% [markdown]
# ## How few heads carry the answer
#
# Where a few heads carry everything, removing any set that holds one of them says little about the
# set. The curves show how quickly the cost falls from the most important head to the rest.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-ranked", "caption": "Cost of masking a head on rightly answered questions, heads sorted by cost."}, "image": {"alt": "Sorted head effects, one curve per category."}}
figures.ranked_effects(
    {c: -s.c_correct for c, s in scores.items()}, k_heads, label="loss of P(answer) when masked"
)
# %% tags=["hide-input"]
largest = max(
    ((float((-s.c_correct).max()), c, hd.Head(*np.unravel_index((-s.c_correct).argmax(), s.c_correct.shape)))
     for c, s in scores.items()),
)  # fmt: skip
glue("largest_effect", largest[0], display=False)
print(f"Largest single-head cost: {largest[0]:.3f} ({largest[2]} on {largest[1]}).")

# %% [markdown]
# ## How sure the lists are
#
# Images are resampled with all their questions, and the heads ranked again. A list that is the same
# for every draw says something about the model; one that changes says something about the sample.
# The table counts the heads of each list whose 95 % interval excludes 0, and gives the mean overlap
# of a resampled list with the full one.


# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-stability", "caption": "Share of resamples of the images in which a head is among the top K, by its rank in the full sample."}, "image": {"alt": "Two panels of falling curves, one line per category, positive and negative heads."}}
sure, curves = [], {"positive": {}, "negative": {}}
for category, members in by_category(triples).items():
    if str(category) not in scores:
        continue
    own = effects.of(members)
    images = [image_of[i] for i in own.ids]
    stable = rank.stability(own, images, k, score, seed=seed)
    means = {"positive": -scores[category].c_correct, "negative": scores[category].c_incorrect}
    enough = min(len({i for i, r in zip(images, own.right, strict=True) if r == v}) for v in (True, False))  # fmt: skip
    bands = rank.score_bands(own, images, score) if enough > 1 else (None, None)
    for (side, mean), band in zip(means.items(), bands, strict=True):
        order = np.argsort(-mean, axis=None, kind="stable")
        curves[side][category] = getattr(stable, side).ravel()[order]
        clear = (
            ((band.low > 0) | (band.high < 0)).ravel()[order[:k_heads]].sum() if band else np.nan
        )
        sure.append((str(category), side, clear, stable.jaccard[side]))
sure = pd.DataFrame(sure, columns=["category", "side", "interval excludes 0", "overlap"])
glue("stable_positive", float(sure[sure["side"] == "positive"]["overlap"].mean()), display=False)
glue("stable_negative", float(sure[sure["side"] == "negative"]["overlap"].mean()), display=False)
figures.stability_curves(curves, k_heads)

# %% tags=["hide-input"]
tables.show(
    sure,
    {"interval excludes 0": "{:.0f}", "overlap": "{:.2f}"},
    f"Of the {k_heads} heads of each list, and mean Jaccard overlap of resampled lists with it",
)

# %% [markdown]
# ## Does the kind of mask matter
#
# The mean of the other heads is one way to take a head away. Zero is another; so are the head's own
# mean over the data set, and its output for another image. On fewer questions, the same ones for
# all masks: rank correlation with the run's mask over all heads, and overlap of the positive lists.

# %% tags=["hide-input"]
fewer = sample(triples, mask_n, seed)
cost = {
    name: -hd.sweep(vlm, fewer, store, mask=name, seed=seed, budget_mib=budget_mib or None).delta
    for name in hd.MASKS
}
rows = []
for name in hd.MASKS:
    for category in by_category(fewer):
        at = [i for i, t in enumerate(fewer) if t.category == category]
        ours, other = (cost[m][at].mean(0).ravel() for m in (mask, name))
        tops = [set(np.argsort(-c, kind="stable")[:k_heads]) for c in (ours, other)]
        rows.append(
            (name, str(category), spearmanr(ours, other).statistic, rank.jaccard(*map(list, tops)))
        )
masks = pd.DataFrame(rows, columns=["mask", "category", "rank correlation", "overlap"])
tables.show(
    masks.groupby("mask", sort=False)[["rank correlation", "overlap"]].mean().reset_index(),
    {"rank correlation": "{:.2f}", "overlap": "{:.2f}"},
    f"Masks against {mask}: means over categories ({mask_n} questions each)",
)

# %% [markdown]
# ## The same heads on the edited image?
#
# The paper identifies heads on original images only. If a head serves the asked concept rather
# than something else about those images, it should serve it on the edited images, too, where the
# other answer is right. The same questions are swept on both images, and the mean effects over
# rightly answered questions are compared; the last column compares two halves of the originals,
# split by image, which is as much agreement as one can hope for.

# %% tags=["hide-input"]
settings = EditSettings.of(editing)
fewer = sample(triples, n_compare or None, seed)
found = corrupted(edit, fewer, settings, data=data, split=split, root=edits, device=device)
changed = on_edited(fewer, found.pictures) if found.reverses else []
if changed:
    on_changed = hd.sweep(vlm, changed, store, mask="mean", budget_mib=budget_mib or None)
agreement = []
for category, members in by_category(changed).items():
    originals = [t for t in by_category(fewer)[category] if t.id in found.pictures]
    new, old = on_changed.of(members), effects.of(originals)
    images = sorted({t.image_id for t in originals})
    halves = [effects.of([t for t in originals if t.image_id in set(images[b::2])]) for b in (0, 1)]
    if not (new.right.any() and old.right.any()):
        continue
    means = [e.delta[e.right].mean(0) for e in (old, new)]
    row = {
        "category": str(category),
        "edited images": len(members),
        "answered rightly": int(new.right.sum()),
        "rank correlation": spearmanr(*(m.ravel() for m in means)).statistic,
        "shared of the top heads": len(
            set(np.argsort(means[0].ravel())[:k_heads])
            & set(np.argsort(means[1].ravel())[:k_heads])
        ),
    }
    if all(h.right.any() for h in halves):
        parts = [h.delta[h.right].mean(0).ravel() for h in halves]
        row["between halves"] = spearmanr(*parts).statistic
    agreement.append(row)
agreement = pd.DataFrame(agreement)
if len(agreement):
    glue("edited_heads", float(agreement["rank correlation"].mean()), display=False)
tables.show(
    agreement,
    {"rank correlation": "{:.2f}", "between halves": "{:.2f}"},
    f"Head effects on original and edited images ({edit}); K = {k_heads}",
)

# %% [markdown]
# ## The lists
#
# The form of Table 13, most important head first. The paper's lists are for models of 7 billion
# parameters, whose 32 layers of 32 heads have nothing to do with the layers of another model; they
# are shown for their form, and for the overlaps computed from them below.


# %% tags=["hide-input"]
def words(found):
    return " ".join(map(str, found))


printed = paper.table(13)
printed = printed[printed["model"] == paper_model].set_index(["category", "side"])["heads"]
lists = pd.DataFrame(
    [
        (c, side, words(getattr(sets[c], side)), printed.get((c, side), ""))
        for c in sets
        for side in ("positive", "negative")
    ],
    columns=["category", "side", "this run", theirs_name],
)
tables.show(lists, caption=f"Table 13 form: the top {k_heads} heads of each category")

# %% [markdown]
# ## Shared within a level
#
# Table 2 of the paper is the intersection of Table 13's lists within each concept level.


# %% tags=["hide-input"]
def of_level(level):
    return [c for c in sets if Category(c).level == level]


table2 = paper.table(2)
table2 = table2[table2["model"] == paper_model].set_index(["level", "side"])["heads"]
shared = []
for level in ("attribute", "object", "relation"):
    for side in ("positive", "negative"):
        found = [getattr(sets[c], side) for c in of_level(level)]
        common = [h for h in found[0] if all(h in f for f in found)] if len(found) > 1 else []
        shared.append((level, side, words(common) or "none", table2[level, side]))
tables.show(
    pd.DataFrame(shared, columns=["level", "side", "this run", theirs_name]),
    caption="Table 2 form: heads in the lists of all categories of a level",
)

# %% [markdown]
# ## How much the lists overlap
#
# Jaccard overlap: shared heads over all heads of two lists. Two random lists of K heads overlap a
# little by chance. The blocks are the concept levels.


# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-overlap", "caption": "Jaccard overlap between the head lists of two categories. Framed blocks: categories of one concept level."}, "image": {"alt": "Two matrices of Jaccard overlaps, positive and negative heads."}}
def overlaps(lists_of):
    names = list(lists_of)
    return pd.DataFrame(
        [[rank.jaccard(lists_of[a], lists_of[b]) for b in names] for a in names], names, names
    )


chance = rank.jaccard_by_chance(k_heads, len(vlm.heads))
mine = {s: overlaps({c: list(getattr(sets[c], s)) for c in sets}) for s in ("positive", "negative")}
figures.overlap_maps(mine, chance)


# %% tags=["hide-input"]
def within_and_across(frame):
    pairs = {True: [], False: []}
    for a, b in combinations(frame.index, 2):
        pairs[Category(a).level == Category(b).level].append(frame.loc[a, b])
    return np.mean(pairs[True] or [np.nan]), np.mean(pairs[False] or [np.nan])


theirs = {
    s: overlaps({c: printed[c, s].split() for c in map(str, Category)})
    for s in ("positive", "negative")
}
rows, level = [], {}
for side in ("positive", "negative"):
    for who, frame, by_chance in (
        ("this run", mine[side], chance),
        (theirs_name, theirs[side], rank.jaccard_by_chance(10, 32 * 32)),
    ):
        within, across = within_and_across(frame)
        level[side, who] = (within, across)
        rows.append((side, who, within, across, by_chance))
both = {c: len(set(sets[c].positive) & set(sets[c].negative)) for c in sets}
for side in ("positive", "negative"):
    glue(f"within_{side}", float(level[side, "this run"][0]), display=False)
    glue(f"across_{side}", float(level[side, "this run"][1]), display=False)
glue("chance_overlap", chance, display=False)
glue("in_both", sum(both.values()), display=False)
tables.show(
    pd.DataFrame(rows, columns=["side", "lists", "within a level", "across levels", "chance"]),
    {"within a level": "{:.3f}", "across levels": "{:.3f}", "chance": "{:.3f}"},
    "Mean Jaccard overlap between categories",
)

# %% [markdown]
# ## Screening
#
# The sweep above runs the model once per head. One forward and one backward pass estimate the
# effect of every head at once: with the gradient of the answer at the head outputs, masking a head
# changes the answer to first order by the gradient times the change of the head's output
# ({eq}`eq-5`). Two choices matter.
#
# - *What is differentiated.* The probability of {eq}`eq-6` is flat where the model is sure, and its
#   gradient says little about what masking does. Its log-odds are not flat. The estimate is made on
#   the log-odds and mapped back; the plain estimate on the probability is shown beside it.
# - *Where heads are masked.* At all positions, as in the paper, or only behind the image, on
#   recorded keys and values. The second is cheaper, because questions about one image share
#   everything before them, and it leaves out what heads do on the image tokens.

# %% tags=["hide-input"]
by = mask if mask in ("mean", "zero") else "mean"  # what can be screened
swept = (
    effects if by == mask else hd.sweep(vlm, triples, store, mask=by, budget_mib=budget_mib or None)
)
estimates = {
    (how, positions): sc.screen(vlm, triples, store, how=how, positions=positions, mask=by)
    for positions in sc.POSITIONS
    for how in sc.HOWS
}
of_category = {c: m for c, m in by_category(triples).items() if str(c) in scores}
exact = {str(c): rank.causal_scores(swept.of(m), score) for c, m in of_category.items()}
screened = {
    kind: {str(c): rank.causal_scores(e.of(m), score) for c, m in of_category.items()}
    for kind, e in estimates.items()
}


# %% tags=["hide-input"]
def evaluations(work, groups):
    with sc.block_evaluations(vlm) as count:
        for group in groups:
            work(group)
    return count.blocks


images = by_image(vlm, triples)
images = images[:: max(1, len(images) // 8)][:8]  # enough for a ratio
sweeping = evaluations(
    lambda g: hd.mask_every_head(vlm, record(vlm, encode_group(vlm, g)), by), images
)
screening = {
    p: evaluations(
        lambda g, p=p: sc.first_order(vlm, encode_group(vlm, g), positions=p, mask=by), images
    )
    for p in sc.POSITIONS
}
rows, agreed = [], {}
for (how, positions), found in screened.items():
    each = [sc.agreement(exact[c], found[c], k) for c in scores]
    for side in ("positive", "negative"):
        agreed[how, positions, side] = np.mean([a[side] for a in each], axis=0)
    numbers = [agreed[how, positions, side] for side in ("positive", "negative")]
    rows.append((how, positions, sweeping / screening[positions], *np.concatenate(numbers)))
columns = ["estimated on", "masked at", "times cheaper"]
columns += [
    f"{what}, {side}" for side in ("right", "wrong") for what in ("rank correlation", "recall")
]
for positions in sc.POSITIONS:
    glue(f"screen_cheaper_{positions}", float(sweeping / screening[positions]), display=False)
    for side in ("positive", "negative"):
        recall = float(agreed["log-odds", positions, side][1])
        glue(f"screen_recall_{positions}_{side}", recall, display=False)
tables.show(
    pd.DataFrame(rows, columns=columns),
    {"times cheaper": "{:.1f}"} | {c: "{:.2f}" for c in columns[3:]},
    f"Screened against exact scores, means over categories; recall of the exact top {k_heads}",
)

# %% [markdown]
# *Times cheaper* counts decoder layers evaluated, one layer on one token being the unit, on a few
# images of this run; a backward pass counts as two forward passes. Exact sweeps let the questions
# about an image share its tokens, gradients at all positions do not, so the advantage is smallest
# where images have many questions and models few heads; it grows with the number of layers times
# heads. On this run, recall of the exact positive (negative) heads is
# {glue:text}`screen_recall_all_positive:.2f` ({glue:text}`screen_recall_all_negative:.2f`) at
# {glue:text}`screen_cheaper_all:.0f` times fewer evaluations for masks at all positions, and
# {glue:text}`screen_recall_question_positive:.2f`
# ({glue:text}`screen_recall_question_negative:.2f`) at
# {glue:text}`screen_cheaper_question:.0f` times fewer for masks behind the image. The log-odds were
# preferred after a look at the embedded world's analysis questions; another `split` checks that
# choice on questions that had no part in it.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-screened", "caption": "Screened (log-odds, all positions) against exact mean effect of masking a head. Colours: concept levels, markers: categories. On the line the two agree."}, "image": {"alt": "Two scatter plots of estimated against exact head scores, for right and wrong answers."}}
best = screened["log-odds", "all"]
figures.estimated_effects(
    {
        "positive": {c: (exact[c].c_correct, best[c].c_correct) for c in scores},
        "negative": {c: (exact[c].c_incorrect, best[c].c_incorrect) for c in scores},
    }
)
# %% [markdown]
# ### Sweep some images exactly
#
# Estimates and exact effects combine: the mean of the estimates over all questions, plus the mean
# of their errors over the questions of a few images swept exactly. This *control variate* is right
# on average whatever the quality of the estimates, up to a bias that shrinks with the number of
# images; their quality decides how much it varies. Its standard error comes from the spread between
# images. The fitted coefficient multiplies the
# estimates by what the sub-sample says they are worth. The grey curve is an exact sweep of the same
# images without any screening. {eq}`eq-7` is signed here.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-subsample", "caption": "Recall of the exact top K (top), and their scores' standard error (lines) and root mean square error (dots; bottom), when only some of the images are swept exactly. Means over draws of images and over categories."}, "image": {"alt": "Recall and error against the share of images swept exactly, for three estimators."}}
curves = pd.concat(
    cv.by_share(
        swept.of(m),
        estimates["log-odds", "all"].of(m),
        [t.image_id for t in m],
        (0.05, 0.1, 0.2, 0.4, 0.7),
        k=k,
        seed=seed,
    ).assign(category=str(c))
    for c, m in of_category.items()
)
alone = {
    side: np.mean([sc.agreement(exact[c], best[c], k)[side].recall for c in own])
    for side, own in curves.groupby("side")["category"].unique().items()
}
columns = ["recall", "se", "error", "covered"]
curves = curves.groupby(["side", "share", "beta"], sort=False, as_index=False)[columns].mean()
figures.recall_by_share(curves, alone)
# %% tags=["hide-input"]
chosen = curves[(curves["beta"] == "1.0") & curves["share"].isin([0.1, 0.4])]
names = {"side": "heads", "share": "images swept", "se": "standard error"}
tables.show(
    chosen[["side", "share", *columns]].rename(columns=names),
    {"images swept": "{:.0%}", "recall": "{:.2f}", "standard error": "{:.4f}", "error": "{:.4f}"}
    | {"covered": "{:.0%}"},
    "Control variate: standard error, error, and how often 1.96 standard errors hold the truth",
)

# %% [markdown]
# With few images the standard errors are too short: an effect that a few questions carry is not
# seen until one of them is drawn. The last column says by how much; an interval that holds should
# cover 95 %.

# %% [markdown]
# ## Where the heads look
#
# Appendix F of the paper measures, for two of the seven categories, how much of a head's attention
# lies inside the box of the asked object: nearly all of it for positive heads and little for
# negative ones (Table 14). Attention is read here at the question's last token. The paper does not
# say what the share is taken of; `attention_of` chooses the attention on image tokens (`image`) or
# all of it (`all`). Questions about an object that is not there are left out.
#
# A share says little by itself: large boxes hold much of any attention, and objects tend to stand
# where heads look anyway. Two references follow each number. *Boxes of other images* keeps the
# attention and exchanges the boxes between images of the category. *Random heads* keeps the boxes
# and draws as many heads at random from the same layers.

# %% tags=["hide-input"]
seen = attention.regions(vlm, [t for t in triples if t.category in sets])
overlap_of_heads = attention.overlap(vlm, seen, store, of=attention_of)
found, differences = [], []
for category in sets:
    own = seen.of(category)
    if not own.triples:
        continue
    chosen = {side: list(getattr(sets[category], side)) for side in ("positive", "negative")}
    looks = attention.set_maps(vlm, own.triples, chosen, store, of=attention_of)
    of_category = overlap_of_heads[seen.at(category)]
    summary = summarise(own, of_category, looks, chosen, seed=seed)
    found.append(summary.assign(category=category))
    apart = ((looks["positive"] - looks["negative"]) * own.covers).sum(1)
    differences.append(pd.DataFrame({"image": [t.image_id for t in own.triples], "apart": apart}))
looked = pd.concat(found, ignore_index=True)
apart = pd.concat(differences)
apart = clustered_mean(apart["apart"], apart["image"], seed=seed)
means = looked.groupby("set")[["overlap", "area"]].mean()
for side in ("positive", "negative"):
    glue(f"inside_{side}", float(means.loc[side, "overlap"]), display=False)
glue("area_of_boxes", float(means["area"].mean()), display=False)
print("Left out:", ", ".join(f"{n} ({why})" for why, n in seen.left_out.items()))
if vlm.looks_through:
    print(
        "The image tokens of this model have no place in the picture. What follows is another "
        f"quantity: attention on image tokens carried on to the patches by {vlm.looks_through}."
    )

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-attention", "caption": "Attention inside the asked object's box, mean over the K heads and the questions of a category, with 95 % intervals that resample images. Grey bars: the same attention in boxes of other images. Brackets: random heads of the same layers. Dotted: mean area of the boxes."}, "image": {"alt": "Share of attention inside the box per category for positive and negative heads, with two reference ranges."}}
through = f",\nthrough {vlm.looks_through}" if vlm.looks_through else ""
figures.overlap_points(looked, label=f"attention inside the box{through}")

# %% tags=["hide-input"]
table14 = paper.table(14)
table14 = table14[table14["model"] == paper_model].set_index(["category", "side"])["overlap"]
shown = looked.assign(
    paper=[table14.get(at, np.nan) for at in looked[["category", "set"]].itertuples(index=False)]
)
columns = {
    "category": "category",
    "set": "heads",
    "triples": "questions",
    "overlap": "in the box",
    "area": "area of the box",
    "enrichment": "ratio",
    "permuted": "boxes of other images",
    "p_more": "p (more)",
    "p_less": "p (less)",
    "random": "random heads",
    "p_random": "p (more than random)",
    "paper": theirs_name,
}
per_cent = ("overlap", "area", "permuted", "random", "paper")
tables.show(
    shown[list(columns)].rename(columns=columns),
    {columns[c]: "{:.1f}" for c in per_cent}
    | {columns[c]: "{:.4f}" for c in ("p_more", "p_less", "p_random")}
    | {"ratio": "{:.2f}"},
    "Table 14 form: per cent of attention inside the asked object's box",
)

# %% [markdown]
# One question, so that the numbers have a face: in the first category, the one whose share is the
# median of its category, for the most important head of each side.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-looks", "caption": "Left: a picture with the asked object's box. Right: where the most important positive and negative head of the category look, per cent of their attention on the image."}, "image": {"alt": "A picture with a box, and two maps of attention over its patches."}}
category = looked["category"][0]
own, ranked = seen.of(category), overlap_of_heads[seen.at(category)]
tops = {side: next(iter(getattr(sets[category], side))) for side in ("positive", "negative")}
shares = ranked[:, tops["positive"].layer, tops["positive"].head]
middle = np.argsort(shares)[len(shares) // 2]
triple = own.triples[middle]
weights = attention.maps(vlm, [triple])[0].numpy()
on_image = {side: 100 * weights[h] / weights[h].sum() for side, h in tops.items()}
picture = open_image(triple.image)
print(f"{triple.question} {triple.answer}.")
figures.attention_example(
    picture,
    triple.boxes[0],
    {
        f"{side} {tops[side]}: {share @ own.covers[middle]:.0f} % inside": share
        for side, share in on_image.items()
    },
    vlm.cells(*picture.size),
)

# %% [markdown]
# ## Verdicts
#
# Each conclusion of section 5.2 and appendix F is broken down into conditions that this chapter can
# decide.

# %% tags=["hide-input"]
judge(
    "heads-exclusive",
    {"disjoint": not any(both.values())},
    ours=f"{sum(both.values())} heads are in both lists of a category",
)

# %% tags=["hide-input"]
within, across = level["positive", "this run"]
compared = not np.isnan(within), not np.isnan(across)
judge(
    "positives-shared-within-level",
    {
        "shared": bool(within >= 3 * chance) if compared[0] else None,
        "different": bool(within >= 1.5 * across) if all(compared) else None,
    },
    ours=f"Jaccard overlap {within:.2f} within, {across:.2f} across levels, {chance:.2f} by chance",
)

# %% tags=["hide-input"]
within, across = level["negative", "this run"]
compared = not np.isnan(within), not np.isnan(across)
judge(
    "negatives-generalise",
    {
        "general": bool(across >= 3 * chance) if compared[1] else None,
        "alike": bool(across >= 0.5 * within) if all(compared) else None,
    },
    ours=f"Jaccard overlap {across:.2f} across, {within:.2f} within levels, {chance:.2f} by chance",
)

# %% tags=["hide-input"]
positive, negative = (looked[looked["set"] == s] for s in ("positive", "negative"))
judge(
    "positives-look-at-the-target",
    {
        "boxes": bool((positive["p_more"] < 0.05).all()),
        "random_heads": bool((positive["p_random"] < 0.05).mean() > 0.5),
        "apart": bool(apart.low > 0),
        "background": bool((negative["p_less"] < 0.05).mean() > 0.5),
    },
    ours=f"{positive['overlap'].mean():.1f} % of positive and {negative['overlap'].mean():.1f} % of "
    f"negative heads' attention in the box, which covers {positive['area'].mean():.1f} %",
)

# %% [markdown]
# A head that is chosen for its effect has one on the images that chose it. Whether key heads matter
# more than other heads is therefore asked of images that had no say: each half of the images
# chooses, the other half tests, and the mean effect of the chosen heads is held against the mean
# over all heads, which is what random heads have on average.


# %% tags=["hide-input"]
def beyond_random(side):
    """Effect of the K chosen heads beyond a random head's per question, on images that did not choose."""
    gains, sign = [], -1 if side == "positive" else 1
    for category, members in by_category(triples).items():
        pictures = sorted({t.image_id for t in members})
        for b in (0, 1):
            testing = set(pictures[b::2])
            chooser = effects.of([t for t in members if t.image_id not in testing])
            if str(category) not in scores or chooser.right.all() or not chooser.right.any():
                continue
            heads = getattr(rank.top_heads(rank.causal_scores(chooser, score), k, "both"), side)
            tester = effects.of([t for t in members if t.image_id in testing])
            counted = tester.right if side == "positive" else ~tester.right
            delta = sign * tester.delta[counted]
            chosen = delta[:, [h.layer for h in heads], [h.head for h in heads]].mean(1)
            found = [image_of[i] for i, c in zip(tester.ids, counted, strict=True) if c]
            gains += zip(found, chosen - delta.mean((1, 2)), strict=True)
    gains = pd.DataFrame(gains, columns=["image", "gain"])
    if gains["image"].nunique() < 2:
        return None
    return clustered_mean(gains["gain"], gains["image"], seed=seed)


beyond = {side: beyond_random(side) for side in ("positive", "negative")}
judge(
    "key-heads-beyond-random",
    {side: None if x is None else bool(x.low > 0) for side, x in beyond.items()},
    ours="; ".join(
        f"{side} {x.mean:+.4f} P(answer) ({x.low:+.4f} to {x.high:+.4f})"
        for side, x in beyond.items()
        if x is not None
    )
    or "too few right or wrong answers",
)

# %% [markdown]
# Appendix F adds where LLaVA's heads lie, and that some heads of InstructBLIP recur. Layers are
# compared as shares of the depth; entries of all lists are counted, a head once per list.


# %% tags=["hide-input"]
def at_depth(side):
    """Share of the lists' entries, and of all layers, at the depth that the paper names."""
    span = paper.depths().set_index("what").loc[f"{side} heads"]
    middle = (np.arange(vlm.n_layers) + 0.5) / vlm.n_layers
    inside = (span["begin"] <= middle) & (middle < span["end"])
    return inside[[h.layer for c in sets for h in getattr(sets[c], side)]].mean(), inside.mean()


entries, layers = at_depth("positive")
judge(
    "positives-in-the-middle",
    {"concentrated": bool(entries >= 1.5 * layers) if paper_model == "LLaVA" else None},
    ours=f"{entries:.0%} of the entries in {layers:.0%} of the layers",
)

# %% tags=["hide-input"]
entries, layers = at_depth("negative")
judge(
    "negatives-near-the-end",
    {"concentrated": bool(entries >= 1.5 * layers) if paper_model == "LLaVA" else None},
    ours=f"{entries:.0%} of the entries in {layers:.0%} of the layers",
)

# %% tags=["hide-input"]
recurring = {}
for c in sets:
    for h in sets[c].positive:
        recurring.setdefault(h, []).append(Category(c))
most, tasks = max(recurring.items(), key=lambda item: len(item[1]))
judge(
    "universal-positive-heads",
    {
        "recurs": any(
            len(cs) > len(sets) / 2 and len({c.level for c in cs}) > 1 for cs in recurring.values()
        )
        if paper_model == "InstructBLIP"
        else None
    },
    ours=f"{most} is a positive head of {len(tasks)} of {len(sets)} categories",
)

# %% [markdown]
# ## What differs from the paper
#
# - The default model is small and was trained with random head dropout, so that its computation is
#   spread over heads; it has far fewer heads than LLaVA-1.5-7B's 1,024, and K heads are a larger
#   share of them.
# - All effects are exact: one recorded run per picture, replayed from the masked layer on. Tests
#   hold them against one plain forward pass per head.
# - Negative heads rest on the wrong answers only, few where the model is good. The sizes stand in
#   the first table; the paper does not print its own.
