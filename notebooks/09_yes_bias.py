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
# # More right, or more Yes?
#
# **The paper.** Rescaled heads are said to improve visual semantic understanding (section 4.2), and
# the evidence is accuracy on yes/no questions (section 6, Tables 3 and 17). No yes-rate is given.
# Yet accuracy also changes when a model merely says Yes more or less readily, and on a set of
# questions whose answer is always Yes it *is* the yes-rate. Most of the question files that were
# released with the paper are such sets ([the first chapter](01_dataset) counts them where it is
# given the files).
#
# **This chapter** takes the edits of [the chapter on rescaling](06_rescaling) and separates the two.
# It measures how well the model tells Yes from No questions apart from where it puts its threshold,
# holds rescaling against a single number added to the logit of Yes, and looks at the same edits
# through questions with one answer only.

# %% tags=["parameters"]
model: str = "tiny-llava"  # a shipped model, a model directory, or a Hugging Face id
data: str = "build/world/gqa"  # directory in GQA's layout
split: str = "analysis"  # prefix of the question file that chooses the heads
heldout: str = "heldout"  # prefix of the file that only tests; "" halves `split` by image
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
seed: int = 0  # of the samples and of the resampled images
dtype: str = "float32"  # float32, bfloat16 or float64
device: str = "cpu"  # cpu or cuda
store: str = "build/store"  # where per-sample results are kept
prompt: str = "paper"  # paper (Table 8) or as_released
mask: str = "mean"  # a head is masked by the mean of the others (paper) or by zero
score: str = "signed"  # signed (paper) or relu (as released)
removal: str = "zero"  # heads are removed by zero or by the mean of the others
lam: str = "minmax"  # minmax (Eq. 9), ratio, raw (as released) or equal
overlap: str = "drop"  # heads in both lists: drop, both or disjoint

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import display
from myst_nb import glue

from vseam_lib import evaluate, figures, modulate, rescaled, tables, yes_bias
from vseam_lib.figures import bias as drawing
from vseam_lib.signal_detection import from_draws
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.triples import by_category, sample, split_by_image
from vseam_lib.verdict import judge
from vseam_lib.vlm.load import load

figures.use_style()
# No analysis here needs boxes: absent objects may lack them, and some of GQA leave the image.
lenient = {"on_missing_box": "keep", "clip_boxes": True}
chosen_on = read_gqa(data, split, categories=categories, **lenient)
if heldout:
    tested_on = read_gqa(data, heldout, categories=categories, **lenient)
else:
    chosen_on, tested_on = split_by_image(chosen_on, seed)
inside, outside = "images that chose the heads", "images that chose no head"
images = {inside: sample(chosen_on, n or None, seed), outside: sample(tested_on, n or None, seed)}
shared = {t.image_id for t in chosen_on} & {t.image_id for t in tested_on}
if shared:
    raise ValueError(f"{len(shared)} images are in both sets; expected disjoint splits")
vlm = load(model, dtype=dtype, device=device, prompt=prompt)
shape = (vlm.n_layers, vlm.n_heads)

# %% [markdown]
# ## The answers
#
# Heads and edits are those of the chapter on rescaling, whose stored answers are used where they
# exist. What is read here is the *margin*, the logit of Yes minus that of No; the model says Yes
# where it is positive. Accuracy in this chapter is the choice between these two.

# %% tags=["hide-input"]
EDITS = ["w/o negative", "w/o positive", "rescaling"]
chosen = rescaled.choose(vlm, images[inside], store, mask=mask, score=score, k=k, overlap=overlap)
raw, answered, neither = {}, {}, {}
for name, triples in images.items():
    table = raw[name] = rescaled.answer_edits(
        vlm, chosen.sets, triples, store, k=k, removal=removal, lam=lam, draws=0
    )
    neither[name] = 100 * (table["right"] != (table["yes"] == (table["gold"] == "Yes"))).mean()
    answered[name] = yes_bias.read_answers(table, seed=seed)

left_out = chosen.left_out + rescaled.without_factors(chosen.sets, lam)
one_kind = {c for own in answered.values() for c, a in own.items() if len(set(a.gold_yes)) < 2}
left_out += [(c, "its questions have one answer only") for c in sorted(one_kind)]
covered = [
    str(c)
    for c in chosen.sets
    if str(c) not in dict(left_out) and all(str(c) in own for own in answered.values())
]
if not covered:
    raise ValueError(f"no category can be compared: {left_out}; try overlap='disjoint', or more n")
if left_out:
    display(
        tables.show(
            pd.DataFrame(left_out, columns=["category", "why"]), caption="Categories left out"
        )
    )
sizes = [
    (name, c, len(own[c].gold_yes), 100 * own[c].gold_yes.mean())
    for name, own in answered.items()
    for c in covered
]
glue("neither", float(max(neither.values())), display=False)
glue("covered", ", ".join(covered), display=False)
tables.show(
    pd.DataFrame(sizes, columns=["images", "category", "questions", "answer Yes (%)"]),
    {"answer Yes (%)": "{:.1f}"},
    "Questions",
)

# %% [markdown]
# Another token than the more probable of Yes and No comes first in at most
# {glue:text}`neither:.1f` % of the answers on either set of images.
#
# ## Does the model tell more apart?
#
# Signal detection keeps two things apart. The *criterion* says how readily the model says Yes
# (0 is unbiased, negative is more readily). *d′* says how far Yes and No questions lie apart, in
# standard deviations of the evidence. In the figure, an arrow that points sideways is an edit that
# moves the threshold; one that points up is an edit that tells more apart. The area under the ROC
# curve (AUC) does so without any threshold: it is the chance that a question whose answer is Yes
# has a larger margin than one whose answer is No.
#
# Both rates are corrected log-linearly (half an answer of each kind is added; Hautus, 1995).
# Intervals are 95 %; they resample whole images, the same ones for all categories.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-threshold", "caption": "Criterion and d′ before (open marker) and after rescaling (arrow), per category, on the pictures that chose the heads and on pictures that chose none."}, "image": {"alt": "Two panels with one arrow per category from the unedited to the rescaled model, criterion across and d prime up."}}
found = {
    (name, c, edit): answered[name][c].detection(edit)
    for name in images
    for c in covered
    for edit in ["original", *EDITS]
}
moves = [
    (name, c, *(float(v[0]) for f in (before, after) for v in (f.criterion, f.d_prime)))
    for name in images
    for c in covered
    for before, after in [(found[name, c, "original"], found[name, c, "rescaling"])]
]
drawing.threshold_arrows(
    pd.DataFrame(moves, columns=["images", "category", "c0", "d0", "c1", "d1"])
)

# %% tags=["hide-input"]
MEASURES = {
    "d_prime": "d′",
    "criterion": "criterion",
    "auc": "AUC",
    "accuracy": "accuracy",
    "balanced": "balanced accuracy",
    "yes_rate": "yes-rate",
}


def spelled(interval, form="{:+.2f}"):
    """A value with its interval."""
    mean, low, high = (form.format(v) for v in interval)
    return f"{mean} ({low} to {high})"


def change(name, c, edit):
    """Of every measure, draw by draw."""
    return found[name, c, edit].minus(found[name, c, "original"])


def mean_change(name, edit, measure):
    """Over categories, with an interval whose images are drawn for all categories at once."""
    return from_draws(np.mean([getattr(change(name, c, edit), measure) for c in covered], axis=0))


rows = []
for c in covered:
    before, after = found[outside, c, "original"], found[outside, c, "rescaling"]
    moved = after.minus(before)
    rows.append(
        {
            "category": c,
            "d′": f"{before.d_prime[0]:.2f} → {after.d_prime[0]:.2f}",
            "change of d′": spelled(from_draws(moved.d_prime)),
            "criterion": f"{before.criterion[0]:+.2f} → {after.criterion[0]:+.2f}",
            "change of criterion": spelled(from_draws(moved.criterion)),
            "AUC": f"{before.auc[0]:.3f} → {after.auc[0]:.3f}",
            "change of AUC": spelled(from_draws(moved.auc), "{:+.3f}"),
        }
    )
display(tables.show(pd.DataFrame(rows), caption=f"Rescaling on {outside}"))
rows = [
    {
        "images": name,
        "measure": word,
        **{
            edit: spelled(mean_change(name, edit, m), "{:+.3f}" if m == "auc" else "{:+.2f}")
            for edit in EDITS
        },
    }
    for name in images
    for m, word in MEASURES.items()
]
tables.show(
    pd.DataFrame(rows),
    caption="Mean change over categories (accuracies and yes-rate in points)",
)

# %% [markdown]
# ## Would one number do the same?
#
# A number added to the logit of Yes needs no heads: it shifts the threshold and leaves the order of
# the margins as it is. Two such offsets are compared with rescaling, per category, on pictures that
# chose no head:
#
# - *the offset with the same yes-rate*: the number that makes the unedited model say Yes exactly as
#   often as the rescaled one. It is fitted to the answers, not to whether they are right, and anew
#   in every resample. What rescaling gains beyond it is not a matter of the threshold;
# - *the best offset of the other pictures*: the number that maximises accuracy on the pictures that
#   chose the heads. It had the same information as the choice of heads, and one parameter.

# %% tags=["hide-input"]
edit_gain, matched_gain, fitted_gain, beyond, rows = {}, {}, {}, {}, []
for c in covered:
    own, fit = answered[outside][c], answered[inside][c]
    original, edited = own.accuracy("original"), own.accuracy("rescaling")
    matched = yes_bias.matched_offset(own.margins["original"], own.margins["rescaling"])
    best = yes_bias.best_offset(fit.margins["original"], fit.gold_yes)
    edit_gain[c] = edited - original
    matched_gain[c] = own.matched_accuracy("rescaling") - original
    fitted_gain[c] = own.accuracy("original", offset=best) - original
    beyond[c] = edit_gain[c] - matched_gain[c]
    rows.append(
        {
            "category": c,
            "yes-rate": f"{found[outside, c, 'original'].yes_rate[0]:.1f} → "
            f"{found[outside, c, 'rescaling'].yes_rate[0]:.1f}",
            "rescaling": float(edit_gain[c][0]),
            "offset, same yes-rate": matched.value,
            "its gain": float(matched_gain[c][0]),
            "rescaling minus it": spelled(from_draws(beyond[c])),
            "best offset": best,
            "gain of the best": float(fitted_gain[c][0]),
        }
    )
columns = ("rescaling", "offset, same yes-rate", "its gain", "best offset", "gain of the best")
tables.show(
    pd.DataFrame(rows),
    dict.fromkeys(columns, "{:+.2f}"),
    f"Rescaling against offsets on {outside} (gains in points of accuracy, offsets in logits)",
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-offset", "caption": "Change of accuracy by rescaling and by two offsets of the logit of Yes, on pictures that chose no head."}, "image": {"alt": "Per category and for their mean, three changes of accuracy with intervals: rescaling, the offset with the same yes-rate, and the best offset of the other pictures."}}
gains = {
    "rescaling": edit_gain,
    "offset with the same yes-rate": matched_gain,
    "best offset of the other pictures": fitted_gain,
}
mean_of = {what: np.mean(list(by.values()), axis=0) for what, by in gains.items()}
drawing.offset_gains(
    pd.DataFrame(
        [
            (c, what, *from_draws(values))
            for what, by in gains.items()
            for c, values in [*by.items(), (drawing.MEAN, mean_of[what])]
        ],
        columns=["category", "what", "mean", "low", "high"],
    )
)

# %% [markdown]
# ## The same edits on questions whose answer is always Yes
#
# On such questions accuracy and yes-rate are the same number, an offset that always says Yes is
# right every time, and "positive" heads are those whose masking lowers the probability of Yes. The
# figure shows each edit on all questions, and on the questions with either answer alone. Rescaling is
# shown once more with heads that were *chosen* on Yes questions only, as they would be from
# the released files.

# %% tags=["hide-input"]
yes_only = [t for t in images[inside] if t.answer == "Yes"]
mixed = {
    c
    for c, own in by_category(yes_only).items()
    if 0 < chosen.effects.of(own).right.mean() < 1 and str(c) in covered
}
FROM_YES = "rescaling, heads chosen on Yes questions"
from_yes = {}
if mixed:
    members = [t for t in yes_only if t.category in mixed]
    sets = rescaled.choose(vlm, members, store, mask=mask, score=score, k=k, overlap=overlap).sets
    undefined = dict(rescaled.without_factors(sets, lam))
    for c, own in by_category(images[outside]).items():
        if c in sets and str(c) not in undefined:
            edit = {FROM_YES: modulate.rescale(sets[c], *shape, lam=lam)}
            from_yes[str(c)] = evaluate.answers(vlm, own, edit, store)
if from_yes:
    print(f"Heads chosen on Yes questions: {', '.join(from_yes)}.")
else:
    print("On Yes questions alone no category has right and wrong answers and heads to rescale.")

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-by-answer", "caption": "Change of accuracy by each edit on pictures that chose no head: on all questions, on those whose answer is Yes, and on those whose answer is No."}, "image": {"alt": "One panel per edit with the change of accuracy per category on all, Yes-only and No-only questions."}}
tested = answered[outside]
if from_yes:
    originals = raw[outside][raw[outside]["edit"] == "original"]
    tested = yes_bias.read_answers(pd.concat([originals, *from_yes.values()]), seed=seed)
by_answer = {}
for edit in [*EDITS, *([FROM_YES] if from_yes else [])]:
    for c in from_yes if edit == FROM_YES else covered:
        own = (tested if edit == FROM_YES else answered[outside])[c]
        for gold in ("", "Yes", "No"):
            by_answer[edit, c, gold or "all"] = own.accuracy(edit, gold=gold) - own.accuracy(
                "original", gold=gold
            )
kinds = dict.fromkeys((edit, gold) for edit, _, gold in by_answer)
means = {
    (edit, drawing.MEAN, gold): np.mean(
        [v for (e, _, g), v in by_answer.items() if (e, g) == (edit, gold)], axis=0
    )
    for edit, gold in kinds
}
drawing.gains_by_answer(
    pd.DataFrame(
        [(*key, *from_draws(values)) for key, values in (by_answer | means).items()],
        columns=["edit", "category", "gold", "mean", "low", "high"],
    )
)

# %% tags=["hide-input"]
rows = [
    {
        "edit": edit,
        **{
            word: spelled(from_draws(means[edit, drawing.MEAN, gold]))
            for gold, word in (("all", "all questions"), ("Yes", "Yes only"), ("No", "No only"))
        },
    }
    for edit in dict.fromkeys(edit for edit, _ in kinds)
]
always = np.mean(
    [100 - answered[outside][c].accuracy("original", gold="Yes") for c in covered], axis=0
)
glue("always_yes", float(always[0]), display=False)
tables.show(
    pd.DataFrame(rows),
    caption="Mean change of accuracy over categories, by the questions looked at (points)",
)

# %% [markdown]
# On the Yes questions alone, saying Yes always would gain {glue:text}`always_yes:+.1f` points, more
# than any edit can.
#
# ## Verdicts
#
# Means over {glue:text}`covered`, on pictures that chose no head.

# %% tags=["hide-input"]
d_prime = mean_change(outside, "rescaling", "d_prime")
auc = mean_change(outside, "rescaling", "auc")
glue("d_prime", d_prime.mean, display=False)
judge(
    "rescaling-improves-discrimination",
    {"d_prime": d_prime.low > 0, "auc": auc.low > 0},
    ours=f"d′ {spelled(d_prime)}, AUC {spelled(auc, '{:+.3f}')}",
)

# %% tags=["hide-input"]
over_matched = from_draws(np.mean(list(beyond.values()), axis=0))
over_fitted = from_draws(mean_of["rescaling"] - mean_of["best offset of the other pictures"])
glue("over_offset", over_matched.mean, display=False)
judge(
    "rescaling-beats-offset",
    {"matched": over_matched.low > 0, "fitted": over_fitted.low > 0},
    ours=f"{spelled(over_matched)} points over the matched offset, "
    f"{spelled(over_fitted)} over the fitted one",
)

# %% [markdown]
# ## What differs from the paper
#
# - The paper reports accuracy alone. Everything in this chapter is an addition, on the edits that it
#   defines.
# - d′ and criterion assume evidence that is normal with one spread for both kinds of question; AUC and
#   the comparison with offsets assume nothing of the kind.
# - Where questions have exactly equal margins, as with duplicates or in bfloat16, no offset may give
#   the wanted yes-rate. Lots are then drawn among the equal ones, and the expected accuracy is
#   shown.
# - Means are over categories, so that every category counts the same.
