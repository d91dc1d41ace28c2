"""Statistics of answers whose questions share images; needs no model.

- :mod:`~vseam_lib.stats.clusters`: means with intervals that resample whole images.
- :mod:`~vseam_lib.stats.paired`: two systems' answers to the same questions.
- :mod:`~vseam_lib.stats.significance`: tests of their difference.
- :mod:`~vseam_lib.stats.effects`: how large a difference is, with intervals.
- :mod:`~vseam_lib.stats.folds`: the paper's t-test over bootstrap folds, and why it misleads.
- :mod:`~vseam_lib.stats.power`: the smallest difference that a sample can show.
- :mod:`~vseam_lib.stats.simulation`: how often tests err where the truth is known.
"""

from vseam_lib.stats.clusters import (
    Band,
    Interval,
    clustered_band,
    clustered_mean,
    resampled_clusters,
)
from vseam_lib.stats.effects import EffectSizes, effect_sizes
from vseam_lib.stats.folds import (
    FoldTest,
    expected_t,
    fold_changes,
    fold_error_rate,
    fold_t_test,
    t_over_folds,
)
from vseam_lib.stats.paired import Paired
from vseam_lib.stats.power import churn, design_effect, minimal_detectable, power_to_detect
from vseam_lib.stats.significance import (
    BootstrapTest,
    McNemar,
    SignFlip,
    bootstrap_test,
    holm,
    mcnemar,
    sign_flip_test,
)
from vseam_lib.stats.simulation import error_rates, simulated_changes, true_design_effect

__all__ = [
    "Band",
    "BootstrapTest",
    "EffectSizes",
    "FoldTest",
    "Interval",
    "McNemar",
    "Paired",
    "SignFlip",
    "bootstrap_test",
    "churn",
    "clustered_band",
    "clustered_mean",
    "design_effect",
    "effect_sizes",
    "error_rates",
    "expected_t",
    "fold_changes",
    "fold_error_rate",
    "fold_t_test",
    "holm",
    "mcnemar",
    "minimal_detectable",
    "power_to_detect",
    "resampled_clusters",
    "sign_flip_test",
    "simulated_changes",
    "t_over_folds",
    "true_design_effect",
]
