"""Statistics over seeds and along runs; numpy only, every random function takes its generator.

Scores are `[num_runs, num_tasks]` (a flat `[num_runs]` is one task) or a mapping from a task to
its own runs; along a run arrays are `[num_seeds, num_rows]`. Missing or infinite numbers are
refused: `fill_diverged` says what a diverged run counts as before anything is averaged.

With three to five seeds a percentile bootstrap interval is narrower than its name promises (it
can never leave the range of the seeds): read it as a description of these seeds.
"""

from loptrl.stats.aggregates import (
    Estimate,
    Scores,
    Statistic,
    difference_ci,
    fresh,
    iqm,
    mean,
    normalised_ci,
    performance_profile,
    probability_of_improvement,
    rate_difference_interval,
    stratified_bootstrap_ci,
    wilson_interval,
)
from loptrl.stats.collapse import (
    DIP_THRESHOLD,
    MINIMUM_COLLAPSE,
    CollapseSummary,
    Dip,
    RunReport,
    collapse_report,
    collapse_reports,
    deepest_drawdown,
    find_dips,
    summarise_collapses,
)
from loptrl.stats.curves import (
    around,
    bootstrap_curve,
    fill_diverged,
    final,
    largest_after_changes,
    regime_relative,
    smooth,
)

__all__ = [
    "DIP_THRESHOLD",
    "MINIMUM_COLLAPSE",
    "CollapseSummary",
    "Dip",
    "Estimate",
    "RunReport",
    "Scores",
    "Statistic",
    "around",
    "bootstrap_curve",
    "collapse_report",
    "collapse_reports",
    "deepest_drawdown",
    "difference_ci",
    "fill_diverged",
    "final",
    "find_dips",
    "fresh",
    "iqm",
    "largest_after_changes",
    "mean",
    "normalised_ci",
    "performance_profile",
    "probability_of_improvement",
    "rate_difference_interval",
    "regime_relative",
    "smooth",
    "stratified_bootstrap_ci",
    "summarise_collapses",
    "wilson_interval",
]
