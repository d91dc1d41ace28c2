"""Times the causal engine against other ways to the same numbers: ``python -m vseam_lib.bench``.

Two tasks, two models, four engines, side by side in one run:

1. *Head sweep*: P(answer) under masking each head by the mean of the others (Eq. 5).
2. *Question-token patching*: attention and MLP outputs of the clean run, one layer and one question
   token at a time, into the run on another image (Eq. 1).

``cases`` builds the models and picks the questions, ``engines`` and ``tools`` hold the engines,
``measure`` counts, times and weighs, ``compare`` runs them in turn and checks that they agree,
``report`` writes tables, and ``full_size`` sweeps a random LLaVA-1.5-7B on a GPU.
"""
