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
# # The data set
#
# **The paper.** Section 5.1 samples yes/no questions from GQA in seven categories on three concept
# levels, balanced between Yes and No (Tables 1 and 9). Every question names one thing that can be
# edited in the picture. Section 4.1 edits it: GPT-4o rewrites the question with one semantic unit
# changed (Tables 6 and 7), SAM masks the object in its box, PowerPaint paints into the mask, a
# person drops about a tenth of the edits, and {eq}`eq-4` keeps the questions that a model answers
# rightly before and wrongly after the edit.
#
# **This chapter** reads such a set from a directory in GQA's official layout and takes every one of
# these steps: question, counterfactual question, mask, edited picture, filter, selection. It
# counts how many questions are left after each.

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
seed: int = 0  # of the sample
dtype: str = "float32"  # float32, bfloat16 or float64
device: str = "cpu"  # cpu or cuda
store: str = "build/store"  # where per-sample results are kept
prompt: str = "paper"  # paper (Table 8) or as_released
second_model: str = "tiny-instructblip"  # looks at the edits, too; empty for none
editing: dict = {}  # settings of the edits that differ from the defaults
edits: str = "build/edits"  # where edited images are kept
verdicts: str = ""  # accept_reject.csv filled in by a person; empty for the automatic filter alone
sheet: str = ""  # folder for contact sheets to filter by hand; empty for none
release: str = ""  # the V-SEAM release's directory, to audit its questions; empty to skip

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import display
from myst_nb import glue
from PIL import Image

from vseam_lib import evaluate, figures, paper, tables
from vseam_lib.editing import counterfactual
from vseam_lib.editing.acceptance import Thresholds, acceptance_rate, funnel, reason_counts
from vseam_lib.editing.corrupt import corrupted, inpainted, on_edited
from vseam_lib.editing.fidelity import summarise
from vseam_lib.editing.review import contact_sheet, entries_of, overrule, read_verdicts
from vseam_lib.editing.rivals import OfflineRewriter
from vseam_lib.editing.settings import EditSettings
from vseam_lib.editing.tools import rewriter_for
from vseam_lib.figures.editing import acceptance_reasons, edit_gallery
from vseam_lib.figures.editing import funnel as funnel_figure
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.sources.reading import ReadReport
from vseam_lib.sources.release import read_release
from vseam_lib.triples import Category, Level, by_category, sample, table1
from vseam_lib.verdict import judge
from vseam_lib.vlm.load import load
from vseam_lib.world.export import is_embedded

figures.use_style()
# No analysis here needs boxes: absent objects may lack them, and some of GQA leave the image.
lenient = {"on_missing_box": "keep", "clip_boxes": True}
report = ReadReport()
available = read_gqa(data, split, categories=categories, **lenient, report=report)
triples = sample(available, n or None, seed)
groups = by_category(triples)
glue("n_triples", len(triples), display=False)

# %% [markdown]
# ## Sizes and balance
#
# The sample of this run beside Table 1 of the paper. The paper does not print the share of Yes per
# category; it describes the sets as balanced.

# %% tags=["hide-input"]
sizes = table1(triples).merge(
    paper.table(1).rename(columns={"size": "paper"}), on=["level", "category"], how="left"
)
sizes["yes_share"] *= 100
tables.show(
    sizes.rename(columns={"yes_share": "yes (%)", "paper": "paper's size"}),
    {"yes (%)": "{:.1f}", "paper's size": "{:,.0f}"},
    "Table 1 form: questions per category",
)

# %% tags=["hide-input"]
worst = float((sizes["yes_share"] - 50).abs().max())
lowest, highest = sizes["yes_share"].min(), sizes["yes_share"].max()
judge(
    "questions-balanced",
    {"balanced": worst <= 5},
    ours=f"{lowest:.1f} to {highest:.1f} % Yes over the categories",
)

# %% [markdown]
# ## What is asked
#
# One question per category. The solid box is the asked object's, which comes first; a dashed box is
# the other object of a relation.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-questions", "caption": "One question of each category with the boxes of its objects, the asked object's solid."}, "image": {"alt": "Seven pictures, one per category, each with a yes/no question, its answer and the boxes of the objects asked about."}}
shown = [members[(seed + 11 * k) % len(members)] for k, members in enumerate(groups.values())]
half = (len(shown) + 1) // 2
rows = [shown[:half], shown[half:]] if len(shown) > 1 else [shown]
figures.gallery(
    [[t.image for t in row] for row in rows],
    [[f"{t.category}\n{t.question}\n{t.answer}" for t in row] for row in rows],
    [[t.boxes for t in row] for row in rows],
)
# %% [markdown]
# ## Counterfactual questions
#
# A rewriter changes exactly one semantic unit. A Yes-question gets a plausible rival; a No-question
# gets what is really there, so that the edit has to show what was *asked* (Tables 6 and 24: after
# the edit the original question has the other answer). Every rewrite is checked: same template, one
# unit changed, the asked object still named. The default rewriter works offline with a grammar and
# GQA's ontology; a language model is one setting away (`editing: {rewriter: gpt-4o-...}`).

# %% tags=["hide-input"]
settings = EditSettings.of(editing)
table = inpainted(triples, settings, data=data, split=split, root=edits, device=device)
if verdicts:
    table = overrule(table, read_verdicts(verdicts, known=table["id"]))
edited = table[table["stage"] == "edited"]
accepted = table[table["accepted"]]
glue("n_edited", len(edited), display=False)
glue("n_accepted", len(accepted), display=False)
glue("acceptance", 100 * len(accepted) / max(1, len(edited)), display=False)
example = {c: next((t for t in g if t.id in set(accepted["id"])), g[0]) for c, g in groups.items()}
about = table.set_index("id")
rewritten = pd.DataFrame(
    [
        (str(c), t.question, t.answer, *about.loc[t.id, ["counterfactual", "shows", "wanted"]])
        for c, t in example.items()
    ],
    columns=["category", "question", "answer", "counterfactual question", "shows", "wanted"],
)
tables.show(rewritten, caption="Table 6 form: the first accepted question of each category")

# %% tags=["hide-input"]
coverage_table = counterfactual.coverage(triples, rewriter_for(settings, data, split))
coverage_table["share"] *= 100
tables.show(
    coverage_table.rename(columns={"share": "rewritten (%)", "reasons": "refused because"}),
    {"rewritten (%)": "{:.1f}"},
    "Questions that the rewriter of this run could rewrite",
)

# %% [markdown]
# ## Masks and edits
#
# SAM turns a box into a silhouette. For colours and materials the silhouette itself is painted,
# shape-guided, so that only the paint changes; an object is replaced within a box around it; of a
# spatial relation the two objects exchange places, one after the other; of an action both are
# painted anew in one box. The original is pasted back outside the mask. In an embedded world the
# scene can also be drawn again with exactly that one thing changed, the edit that an inpainter aims
# at.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-edits", "caption": "The first accepted edit of each category: original with box and mask and its question, the edit with what it is wanted to show, and, in an embedded world, the exact edit."}, "image": {"alt": "A row of pictures per category: the original with its box and mask outlined, the edited picture, and the exact counterfactual."}}
exact = {}
if is_embedded(data):
    exact = corrupted("oracle", triples, settings, data=data, split=split, root=edits).pictures


def gallery_rows(chosen):
    """What the gallery shows of triples."""
    return pd.DataFrame(
        [
            {
                "category": str(t.category),
                "question": t.question,
                "counterfactual": f"wanted: {about.loc[t.id, 'wanted']}",
                "before": t.image,
                "boxes": t.boxes,
                "mask": np.array(Image.open(about.loc[t.id, "mask"])),
                "edited": about.loc[t.id, "image"],
                "oracle": exact.get(t.id),
            }
            for t in chosen
        ]
    )


edit_gallery(gallery_rows([t for t in example.values() if t.id in set(accepted["id"])]))

# %% [markdown]
# ## How faithful the edits are
#
# Outside the mask nothing may change, inside something must, and the object of a colour or material
# edit must keep its shape. `success` is the verdict of somebody else: in an embedded world a small
# classifier that knows the world, shares nothing with the models under analysis, and never sees the
# prompt. The raw columns are the inpainter's output before the original is pasted back.

# %% tags=["hide-input"]
faithful = summarise(edited.astype({"success": float}) if "success" in edited else edited)
for name in ("success", "mask_share", "changed", "raw_changed", "untouched"):
    if name in faithful:
        faithful[name] *= 100
names_of = {
    "success": "success (%)",
    "mask_share": "mask (%)",
    "inside": "change inside",
    "iou": "IoU of the object",
    "untouched": "outside untouched (%)",
    "raw_psnr": "raw PSNR (dB)",
    "raw_changed": "raw changed (%)",
    "raw_ssim": "raw SSIM",
}
shown_columns = ["category", "n", *(c for c in names_of if c in faithful)]
tables.show(
    faithful[shown_columns].rename(columns=names_of),
    {v: "{:.2f}" if "SSIM" in v or "IoU" in v else "{:.1f}" for v in names_of.values()},
    "Fidelity of all edits, before any filter (means; PSNR: median)",
)

# %% tags=["hide-input"]
raw = edited["raw_changed"].dropna().astype(float) if "raw_changed" in edited else []
untouched = np.isinf(edited["psnr"].dropna().astype(float)) if "psnr" in edited else []
judge(
    "edits-change-nothing-else",
    {
        "pasted": bool(np.mean(untouched) > 0.5) if len(untouched) else None,
        "raw": bool(np.median(raw) <= 0.05) if len(raw) else None,
    },
    ours=f"outside the mask, the inpainter changes {100 * np.median(raw):.1f} % of the pixels of "
    "the median edit"
    if len(raw)
    else "the edits come without a measured inpainter",
)

# %% tags=["hide-input"]
judged = edited.assign(level=[str(Category(c).level) for c in edited["category"]])
judged = judged.dropna(subset="success") if "success" in judged else judged.head(0)
succeeded = 100 * judged.groupby("level")["success"].agg(lambda s: s.astype(float).mean())
judge(
    "edits-reach-every-level",
    {
        f"{level}s": bool(succeeded[level] > 50) if level in succeeded else None
        for level in map(str, Level)
    },
    ours=", ".join(f"{share:.0f} % of {level} edits" for level, share in succeeded.items())
    or "no judge looked at the edits",
)

# %% [markdown]
# ## The filter
#
# The paper's authors looked at every edit and dropped about a tenth. Here limits decide, which a
# profile sets, and every reason is recorded. A person can overrule them: `sheet` writes contact
# sheets with a file of verdicts to fill in, `verdicts` reads that file back.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-reasons", "caption": "What became of the edits, per category. An edit that failed in more than one way counts as several."}, "image": {"alt": "Stacked bars per category: accepted edits and the reasons for rejection."}}
acceptance_reasons(reason_counts(table))
# %% tags=["hide-input"]
rate = acceptance_rate(table)
rate["share"] *= 100
tables.show(
    rate.rename(columns={"share": "accepted (%)"}),
    {"accepted (%)": "{:.1f}"},
    "Acceptance per category",
)
# %% tags=["hide-input"]
limits = Thresholds.of(settings.filter)
print("Limits:", ", ".join(f"{m} {side} {v:g}" for m, (side, v) in limits.limits().items()))
if sheet:
    written = contact_sheet(entries_of(table, triples), sheet)
    print(f"{len(written.pages)} contact sheets; verdicts go into {written.verdicts.name}.")

# %% [markdown]
# The paper's number is that of people who looked at real photographs; this run has one only if
# `verdicts` names a filled-in file.

# %% tags=["hide-input"]
dropped = 100 * (1 - len(accepted) / max(1, len(edited)))
judge(
    "a-tenth-of-edits-dropped",
    {"by_hand": 5 <= dropped <= 15 if verdicts else None},
    ours=f"{dropped:.0f} % dropped by {'a person' if verdicts else 'the limits alone'}",
)

# %% [markdown]
# What the filter rejects, by the same rule: the first rejected edit of each category.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-rejected", "caption": "The first rejected edit of each category that has one."}, "image": {"alt": "A row of pictures per category: original, rejected edit, exact counterfactual."}}
rejected = set(edited[~edited["accepted"]]["id"])
first_rejected = [next((t for t in g if t.id in rejected), None) for g in groups.values()]
if any(first_rejected):
    display(edit_gallery(gallery_rows([t for t in first_rejected if t])))
else:
    print("No edit was rejected.")

# %% [markdown]
# ## Can the model answer?
#
# Head analyses need both right and wrong answers: positive heads are read off the questions that
# the model gets right, negative heads off those it gets wrong (Eq. 7). A model that always says Yes
# would score 50 % on balanced data, so the yes-rate stands beside every accuracy.

# %% tags=["hide-input"]
from vseam_lib.causal.interventions import HeadEdits

vlm = load(model, dtype=dtype, device=device, prompt=prompt)
answered = evaluate.answers(
    vlm, triples, {"original": HeadEdits.none(vlm.n_layers, vlm.n_heads)}, store
)
summary = evaluate.summary(answered)
tables.show(
    summary.drop(columns="edit").rename(columns={"yes_rate": "yes-rate", "p": "mean P(answer)"}),
    {
        "accuracy": "{:.1f}",
        "balanced": "{:.1f}",
        "yes-rate": "{:.1f}",
        "mean P(answer)": "{:.3f}",
    },
    "The model of this run on its analysis questions (per cent)",
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-accuracy", "caption": "Accuracy per category (bars, coloured by concept level) with the share of Yes answers (diamonds). Dotted: guessing."}, "image": {"alt": "Bar chart of accuracy per category with yes-rate markers."}}
figures.accuracy_bars(summary)

# %% [markdown]
# ## Which edits turn the answer
#
# {eq}`eq-4` keeps a question if the model answers it rightly on the original and wrongly on the
# edited picture. Which ones these are depends on the model. The paper reports neither these counts
# nor how many questions each of its steps left.

# %% tags=["hide-input"]
pictures_of = dict(zip(accepted["id"], accepted["image"], strict=True))
again = on_edited(triples, pictures_of, reversed_answer=False)
looking = {model: vlm}
if second_model and second_model != model:
    looking[second_model] = load(second_model, dtype=dtype, device=device, prompt=prompt)
stages, agreement, none = [funnel(table)], [], None
for name, who in looking.items():
    none = {"original": HeadEdits.none(who.n_layers, who.n_heads)}
    clean = evaluate.answers(who, triples, none, store).set_index("id")["right"]
    after = evaluate.answers(who, again, none, store) if again else None
    if after is None:
        continue
    after.index = [i.removesuffix("/edited") for i in after["id"]]
    turned = after.assign(clean=clean[after.index], turned=clean[after.index] & ~after["right"])
    part = turned.groupby("category", sort=False).agg(
        accepted=("clean", "size"), right=("clean", "sum"), n=("turned", "sum")
    )
    stages.append(part.reset_index()[["category", "n"]].assign(stage="selected", model=name))
    agreement.append(part.assign(model=name).reset_index())
stages = pd.concat(stages, ignore_index=True)
# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-funnel", "caption": "Questions left after each step, per category; the last step, Eq. 4, depends on the model."}, "image": {"alt": "A panel per category with bars for asked, rewritten, segmented, edited, accepted and selected questions."}}
funnel_figure(stages)

# %% tags=["hide-input"]
agreement = pd.concat(agreement, ignore_index=True) if agreement else pd.DataFrame()
if len(agreement):
    agreement["turned (%)"] = 100 * agreement["n"] / agreement["right"].clip(lower=1)
    glue("selected", int(agreement[agreement["model"] == model]["n"].sum()), display=False)
    own = agreement[agreement["model"] == model]
    glue("turned", float(100 * own["n"].sum() / max(1, own["right"].sum())), display=False)
    display(
        tables.show(
            agreement[["model", "category", "accepted", "right", "n", "turned (%)"]].rename(
                columns={"right": "right on the original", "n": "of these wrong on the edit"}
            ),
            {"turned (%)": "{:.1f}"},
            "Eq. 4 by model, on accepted edits",
        )
    )

# %% [markdown]
# ## The shipped model on scenes it never saw
#
# Measured once, when the weights were packed, on the `heldout` split: on the question's own picture,
# on a blank one, on another question's picture, and on the counterfactual scene. `flips` is the
# share of right answers that change to the other one there. Blank and exchanged pictures must leave
# only guessing.

# %% tags=["hide-input"]
from vseam_lib.vlm.load import shipped_metrics

measured = shipped_metrics(model)
if measured:
    card = pd.DataFrame(measured["heldout"]).T.rename_axis("category").reset_index()
    card = card.drop(columns="n").rename(columns={"yes_rate": "yes-rate"})
    display(
        tables.show(
            card,
            dict.fromkeys(card.columns.drop("category"), "{:.1f}"),
            f"{model}, {measured['parameters']:,} parameters: held-out questions (per cent)",
        )
    )
else:
    print("The model of this run is not a shipped one: there is no such record.")

# %% [markdown]
# ## The released questions
#
# The paper's authors released question files without pictures. With the directory as the parameter
# `release` they are read and audited here; they carry no licence and are not part of this book.

# %% tags=["hide-input"]
if release:
    released = read_release(release)
    asked_of = table1(released)
    asked_of["yes_share"] *= 100
    kept = ReadReport()
    read_release(release, dedupe=True, drop_label_conflicts=True, report=kept)
    printed = paper.table(1)[["category", "size"]].rename(columns={"size": "paper's size"})
    audit = asked_of.merge(printed, on="category", how="left")
    display(
        tables.show(
            audit.rename(columns={"yes_share": "yes (%)"}),
            {"yes (%)": "{:.1f}"},
            "The released files beside Table 1",
        )
    )
    print(kept)
    offline = OfflineRewriter(vocabulary="gqa", seed=seed)
    covered = counterfactual.coverage(released, offline)
    covered["share"] *= 100
    glue("release_covered", 100 * covered["rewritten"].sum() / len(released), display=False)
    display(
        tables.show(
            covered.rename(columns={"share": "rewritten (%)", "reasons": "refused because"}),
            {"rewritten (%)": "{:.1f}"},
            "Released questions that the offline rewriter can rewrite",
        )
    )
    some = [t for g in by_category(sample(released, 2, seed)).values() for t in g]
    outcomes = offline.rewrite(some)
    rows = [
        (str(t.category), t.question, t.answer, getattr(o, "question", str(o)))
        for t, o in zip(some, outcomes, strict=True)
    ]
    display(
        tables.show(
            pd.DataFrame(rows, columns=["category", "question", "answer", "rewritten"]),
            caption="A sample of them",
        )
    )
else:
    print("No release was given: `-p release path/to/V-SEAM` audits it.")

# %% [markdown]
# ## What differs from the paper
#
# - The default data is the embedded world, written in GQA's layout and read by the code that reads
#   GQA itself: pass GQA's directory as `data` and `train` or `val` as `split`.
# - Its No questions always have a plausible rival in the picture: a bus when a car is asked for,
#   another colour, the opposite relation.
# - The paper prompts the inpainter with the counterfactual question. The default here names what is
#   to be painted, with the colour and material that must not change; `editing: {prompt: question}`
#   does as the paper does.
# - The paper does not say how it edits relations. Exchanging two objects reverses a spatial
#   relation; painting both anew changes an action.
# - The paper's filter is a person. Here it is a set of limits, and a person may overrule it.
# - The model was trained on other scenes of the same world. Training scenes have natural
#   co-occurrence (dogs mostly on grass, wooden chairs more often than metal ones); the scenes of
#   the analysis do not.
