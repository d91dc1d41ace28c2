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
# # Heads in pairs
#
# **The paper.** Heads are masked one at a time ({eq}`eq-5`, {eq}`eq-6`) and then edited many at a
# time ({eq}`eq-10`), as if their effects added up. Whether heads "interact in cooperative or
# competitive ways" is left open (Limitations, 3).
#
# **This chapter** masks the most important positive and negative heads in pairs, each pair exactly,
# and asks what masking both does beyond the sum of masking either. Pairs of random heads from the
# same layers show how much any two heads of this model interact.

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
n: int = 64  # questions per category that choose the heads; 0 takes all
k_pairs: int = 8  # positive heads to pair, and as many negative ones
k_random: int = 4  # of these per list, the first, that random heads are matched to
n_pairs: int = 10  # held-out questions per category to mask pairs on; 0 takes all
level: str = ""  # attribute, object or relation; "" pools all questions
seed: int = 0  # of the samples, the random heads and the resampled images
dtype: str = "float32"  # float32, bfloat16 or float64
device: str = "cpu"  # cpu or cuda
store: str = "build/store"  # where per-sample results are kept
prompt: str = "paper"  # paper (Table 8) or as_released
mask: str = "mean"  # a head is masked by the mean of the others (paper) or by zero
score: str = "signed"  # signed (paper) or relu (as released)

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import display
from myst_nb import glue

from vseam_lib import figures, tables
from vseam_lib.causal import heads as hd
from vseam_lib.causal import interactions as inter
from vseam_lib.causal import pairs as pairing
from vseam_lib.causal import ranking as rank
from vseam_lib.figures import pairs as drawing
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.triples import Level, sample, split_by_image
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
shared = {t.image_id for t in chosen_on} & {t.image_id for t in tested_on}
if shared:
    raise ValueError(f"{len(shared)} images are in both sets; expected disjoint splits")
chosen, tested = sample(chosen_on, n or None, seed), sample(tested_on, n_pairs or None, seed)
if level and level not in list(Level):
    raise ValueError(f"expected level to be {', '.join(Level)} or empty, got {level!r}")
of_level = [t for t in chosen if not level or t.level is Level(level)]
tested = [t for t in tested if not level or t.level is Level(level)]
if not of_level or not tested:
    raise ValueError(f"no question of level {level!r} among the categories {categories}")
vlm = load(model, dtype=dtype, device=device, prompt=prompt)
shape = (vlm.n_layers, vlm.n_heads)

# %% [markdown]
# ## The heads
#
# The effects of [the chapter on key heads](05_heads) are averaged over the questions of all
# categories together (or of one `level`), so that one list serves all of them. Each head is in one
# list only, the one where it matters more. Pairs are masked on pictures that chose no head: on those
# that did, the single effects would be flattered by the choice, and interactions with them.

# %% tags=["hide-input"]
effects = hd.sweep(vlm, chosen, store, mask=mask).of(of_level)
sets = rank.top_heads(rank.causal_scores(effects, score), k_pairs, "disjoint")
side_of = {h: side for side in ("positive", "negative") for h in getattr(sets, side)}
if not 2 <= k_random <= k_pairs:
    raise ValueError(f"expected k_random between 2 and k_pairs = {k_pairs}, got {k_random}")
first = [h for own in sets for h in list(own)[:k_random]]
matched = pairing.matched_heads(list(side_of), first, *shape, seed=seed)
moved = sum(a.layer != b.layer for a, b in matched.items())
measured = {
    what: pairing.mask_pairs(vlm, tested, pairing.all_pairs(heads), store, mask=mask)
    for what, heads in (("key", side_of), ("random", matched.values()))
}
kinds = {
    "key": inter.kinds_of(measured["key"].pairs, sets.positive, sets.negative),
    "random": [inter.RANDOM] * len(measured["random"].pairs),
}
clusters = [t.image_id for t in tested]
glue("n_questions", len(tested), display=False)
glue("n_images", len(set(clusters)), display=False)
glue("key_pairs", len(measured["key"].pairs), display=False)
glue("random_pairs", len(measured["random"].pairs), display=False)
glue("moved_heads", moved, display=False)
tables.show(
    pd.DataFrame(
        [
            (
                side,
                ", ".join(map(str, own)),
                ", ".join(str(matched[h]) for h in own if h in matched),
            )
            for side, own in (("positive", sets.positive), ("negative", sets.negative))
        ],
        columns=["list", "heads, most important first", "random heads for the first of them"],
    ),
    caption="Heads that are paired",
)

# %% [markdown]
# ## What a pair does beyond the sum
#
# With $D(a)$, $D(b)$ and $D(a, b)$ the changes of the right answer's probability when one head or
# both are masked, the interaction is $I(a, b) = D(a, b) - D(a) - D(b)$. Two heads of one layer are
# each replaced by the mean of the layer's other heads *as they were*, the other masked head's output
# included. What a negative interaction (the right answer is less likely than the sum says) and a
# positive one mean depends on what masking either head does:

# %% tags=["hide-input"]
tables.show(
    pd.DataFrame(
        [(alone, *means) for alone, means in inter.READINGS.items()],
        columns=[
            "masking either",
            "right answer less likely than the sum says",
            "more likely than it says",
        ],
    ),
    caption="How to read an interaction",
)

# %% [markdown]
# A probability near 1 has little room to rise and much to fall: two heads that add up exactly in
# the *log-odds* of the right answer interact in its probability. Both are shown. Pairs are masked on
# {glue:text}`n_questions` questions about {glue:text}`n_images` pictures; there are
# {glue:text}`key_pairs` pairs of key heads and {glue:text}`random_pairs` of random heads. The latter
# lie in the layers of the first heads of both lists, except for {glue:text}`moved_heads` of them
# whose layer had no other head left.

# %% tags=["hide-input"]
UNITS = {"probability": ("points", 100), "log-odds": ("log-odds", 1)}
SIZES = ["first_alone", "second_alone", "joint", "interaction", "low", "high"]
found, means = {}, {}
for unit, (_, scale) in UNITS.items():
    parts = []
    for what, own in measured.items():
        table = inter.interaction_table(own, clusters, kinds[what], unit=unit, seed=seed)
        parts.append(table.assign(what=what, **{c: scale * table[c] for c in SIZES}))
        for kind, mean in inter.mean_interactions(
            own, clusters, kinds[what], unit=unit, seed=seed
        ).items():
            means[unit, kind] = type(mean)(*(scale * v for v in mean))
    found[unit] = pd.concat(parts, ignore_index=True)

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-interactions", "caption": "Interaction of every pair of key heads in the probability of the right answer, ordered by layer; + marks positive and − negative heads, dots the pairs that differ from 0 at a false discovery rate of 5 %."}, "image": {"alt": "Symmetric heat map of the interactions between the key heads, grouped by layer."}}
key = found["probability"][found["probability"]["what"] == "key"]
drawing.interaction_matrix(
    key, {str(h): side_of[h] for h in sorted(side_of)}, label="interaction (points)"
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-pair-kinds", "caption": "Interactions by kind of pair, in the probability of the right answer (left) and in its log-odds (right): every pair's mean over questions, and the mean over pairs with its 95 % interval, which resamples pictures."}, "image": {"alt": "Two panels of interactions for positive-positive, negative-negative, positive-negative and random pairs, with means and intervals."}}
drawing.interaction_kinds(
    {
        f"interaction ({name})": (
            found[unit],
            {kind: mean for (u, kind), mean in means.items() if u == unit},
        )
        for unit, (name, _) in UNITS.items()
    }
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-sums", "caption": "Effect of masking both heads of a pair against the sum of the effects of masking either; on the line they add up."}, "image": {"alt": "Scatter of joint effects against summed effects per pair, with the diagonal."}}
drawing.joint_against_sum(found["probability"], unit="points")

# %% [markdown]
# ## How many pairs interact
#
# Each pair is tested by flipping the sign of all its interactions on an image at once: if they are
# symmetric around 0, an image's values and their negatives are equally likely. The p-values of the
# key pairs and those of the random pairs are adjusted for their numbers, to a false discovery rate of
# 5 % each. That rate is proven for tests that are independent or depend positively on each other;
# pairs that share a head may not, so hold the two rows against each other. The share of variance is
# that between the pairs' joint effects which the sums explain.

# %% tags=["hide-input"]
FDR = 0.05


def spelled(interval, form="{:+.2f}"):
    """A value with its interval."""
    mean, low, high = (form.format(v) for v in interval)
    return f"{mean} ({low} to {high})"


rows, differ, adds = [], {}, {}
for unit in UNITS:
    for what, own in measured.items():
        part = found[unit][found[unit]["what"] == what]
        differ[unit, what] = float((part["q"] < FDR).mean())
        adds[unit, what] = inter.additivity(own, clusters, unit=unit, seed=seed)
        rows.append(
            {
                "unit": unit,
                "pairs of": f"{what} heads",
                "pairs": len(part),
                "interact (%)": 100 * differ[unit, what],
                "below the sum": int(((part["q"] < FDR) & (part["interaction"] < 0)).sum()),
                "above the sum": int(((part["q"] < FDR) & (part["interaction"] > 0)).sum()),
                "variance explained by sums": spelled(adds[unit, what], "{:.2f}"),
            }
        )
display(
    tables.show(
        pd.DataFrame(rows),
        {"interact (%)": "{:.1f}"},
        "Pairs whose interaction differs from 0 (false discovery rate 5 %)",
    )
)
rows = [
    {
        "kind": kind,
        "pairs": int((found["probability"]["kind"] == kind).sum()),
        "mean, probability (points)": spelled(means["probability", kind]),
        "mean, log-odds": spelled(means["log-odds", kind], "{:+.3f}"),
    }
    for kind in [*inter.KINDS, inter.RANDOM]
    if ("probability", kind) in means
]
display(tables.show(pd.DataFrame(rows), caption="Mean interaction (95 % interval)"))
strongest = key.reindex(key["interaction"].abs().sort_values(ascending=False).index).head(8)
tables.show(
    pd.DataFrame(
        [
            {
                "pair": f"{row.first} and {row.second}",
                "kind": row.kind,
                "first": row.first_alone,
                "second": row.second_alone,
                "both": row.joint,
                "interaction": spelled((row.interaction, row.low, row.high)),
                "q": row.q,
                "reading": inter.reading(row.first_alone, row.second_alone, row.interaction),
            }
            for row in strongest.itertuples(index=False)
        ]
    ),
    {**dict.fromkeys(("first", "second", "both"), "{:+.2f}"), "q": "{:.3f}"},
    "Largest interactions: change of the right answer's probability (points) by masking the first "
    "head, the second and both, and how the interaction would read",
)

# %% [markdown]
# ## Verdict
#
# The paper leaves the question open. Independence is taken to mean that the sums of single effects
# tell the joint ones, that no kind of pair interacts on average, and that key heads do so no more
# often than others.

# %% tags=["hide-input"]
within = {
    unit: all(not means[unit, kind].excludes_zero for kind in inter.KINDS if (unit, kind) in means)
    for unit in UNITS
}
shares = {what: 100 * differ["probability", what] for what in measured}
glue("interacting", shares["key"], display=False)
glue("interacting_random", shares["random"], display=False)
judge(
    "key-heads-independent",
    {
        "additive": adds["probability", "key"].low >= 0.9,
        "probability": within["probability"],
        "log_odds": within["log-odds"],
        "random": shares["key"] <= shares["random"],
    },
    ours=f"sums explain {spelled(adds['probability', 'key'], '{:.2f}')} of the variance; "
    f"{shares['key']:.1f} % of key pairs and {shares['random']:.1f} % of random pairs interact",
)

# %% [markdown]
# ## What differs from the paper
#
# - The paper masks single heads and edits whole lists; it masks no pairs. The question, the kinds of
#   pair and the conditions are this book's.
# - Heads are ranked over all categories together, and each stands in one list only, so that every
#   pair has one kind. The paper's lists are per category and share heads.
# - Pairs are masked at all positions, as single heads are ({eq}`eq-5`), and exactly: tests hold them
#   against one plain forward pass per pair.
# - A negative head can help on the questions at hand: it was chosen on wrong answers alone. Hence
#   interactions are read by what its masking does here.
# - Random heads are one draw, none of them a key head; other random heads would give other pairs.
