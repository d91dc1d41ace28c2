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
# **The paper.** Section 5.1 samples 12,647 yes/no questions from GQA in seven categories on three
# concept levels, balanced between Yes and No (Tables 1 and 9). Every question names one thing that
# can be edited in the picture.
#
# **This chapter** reads such a set from a directory in GQA's official layout, shows its size and
# balance beside the paper's, looks at questions and boxes, and asks the model of this run all of
# them.

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
n: int = 160  # questions per category; 0 takes all
seed: int = 0  # of the sample
dtype: str = "float32"  # float32, bfloat16 or float64
device: str = "cpu"  # cpu or cuda
store: str = "build/store"  # where per-sample results are kept
prompt: str = "paper"  # paper (Table 8) or as_released

# %% tags=["hide-input"]
from IPython.display import display
from myst_nb import glue

from vseam_lib import evaluate, figures, paper, tables
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.sources.reading import ReadReport
from vseam_lib.triples import by_category, sample, table1
from vseam_lib.verdict import Judgement
from vseam_lib.vlm.load import load

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
Judgement(
    "The sample is balanced between Yes and No in every category (section 5.1)",
    {"every category's share of Yes is within 5 points of 50 %": worst <= 5},
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
# ## One thing changed
#
# The paper edits pictures with an inpainting model. An embedded world can also be drawn again with
# exactly one thing changed, which is the reference that such edits can be held against: outside
# the objects concerned no pixel differs. This section needs the embedded world and is left out for
# other data.

# %% tags=["hide-input"] mystnb={"figure": {"name": "{run}-fig-oracle", "caption": "Questions and pictures as drawn; below each, the picture drawn again with only the asked-about thing changed, which reverses the right answer."}, "image": {"alt": "Pairs of pictures, original above and changed below, one pair per category."}}
from vseam_lib.world.draw import draw
from vseam_lib.world.export import is_embedded, question

if is_embedded(data):
    other = {"Yes": "No", "No": "Yes"}
    pictures, titles = [], []
    for row in rows:
        posed = [question(t.id) for t in row]
        pictures += [
            [draw(s)[0] for s, _ in posed],
            [draw(q.counterfactual)[0] for _, q in posed],
        ]
        titles += [
            [f"{q.text}\n{q.answer}" for _, q in posed],
            [f"changed: {other[q.answer]}" for _, q in posed],
        ]
    display(figures.gallery(pictures, titles))
else:
    print("The data of this run is not the embedded world: there is no exact counterfactual.")

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
# ## The shipped model on scenes it never saw
#
# Measured once, when the weights were packed, on the `heldout` split: on the question's own picture,
# on a blank one, on another question's picture, and on the counterfactual scene. `flips` is the
# share of right answers that change to the other one there. Blank and exchanged pictures must leave
# only guessing.

# %% tags=["hide-input"]
import pandas as pd

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
# ## What differs from the paper
#
# - The default data is the embedded world, written in GQA's layout and read by the code that reads
#   GQA itself: pass GQA's directory as `data` and `train` or `val` as `split`.
# - Its counterfactual pictures are drawn, not inpainted, and its No questions always have a
#   plausible rival in the picture: a bus when a car is asked for, another colour, the opposite
#   relation.
# - The model was trained on other scenes of the same world. Training scenes have natural
#   co-occurrence (dogs mostly on grass, wooden chairs more often than metal ones); the scenes of
#   the analysis do not.
