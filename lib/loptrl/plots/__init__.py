"""Figures: arrays in, Figure out, no pyplot and no hidden state.

Curves are `{name: (env_steps [num_rows], values [num_seeds, num_rows])}`. `looks` maps a name to
its style key ("adam", "adam:no_ratio_clip"); without it the names are style keys themselves and
are shown in the words `style` has for them. A band is the 95 % bootstrap interval at each row, the
thin lines behind are the seeds. `rng` defaults to a fixed seed, so that a figure repeats exactly.
"""

from loptrl.plots.axes import Curves
from loptrl.plots.charts import collapse_chart, final_returns, interval_dots
from loptrl.plots.curves import diagnostics, learning_curves
from loptrl.plots.drift import DriftTrace, drift_figure
from loptrl.plots.flow import Arrow, Box, flow_figure
from loptrl.plots.heatmap import HeatPanel, heat_map
from loptrl.plots.profiles import performance_profiles

__all__ = [
    "Arrow",
    "Box",
    "Curves",
    "DriftTrace",
    "HeatPanel",
    "collapse_chart",
    "diagnostics",
    "drift_figure",
    "final_returns",
    "flow_figure",
    "heat_map",
    "interval_dots",
    "learning_curves",
    "performance_profiles",
]
