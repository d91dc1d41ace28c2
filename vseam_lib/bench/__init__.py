"""Times the causal engine against other ways to the same numbers: ``python -m vseam_lib.bench``.

Two tasks, two models, four engines, side by side in one run:

1. *Head sweep*: P(answer) under masking each head by the mean of the others (Eq. 5).
2. *Question-token patching*: attention and MLP outputs of the clean run, one layer and one question
   token at a time, into the run on another image (Eq. 1).

:mod:`~vseam_lib.bench.cases` builds the models and picks the questions,
:mod:`~vseam_lib.bench.engines` and :mod:`~vseam_lib.bench.tools` hold the engines,
:mod:`~vseam_lib.bench.measure` counts, times and weighs, :mod:`~vseam_lib.bench.compare` runs
them in turn and checks that they agree, :mod:`~vseam_lib.bench.report` writes tables and JSON, and
:mod:`~vseam_lib.bench.full_size` sweeps a random LLaVA-1.5-7B on a GPU.
"""
