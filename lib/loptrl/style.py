"""One look for every figure: colours, line styles, sizes, number formats, and how files are saved.

A colour belongs to an optimizer and never changes; a variant of it (another setting, a stationary
task) keeps the hue and changes line style and lightness. The colours stay apart for readers with
deuteranopia or protanopia and have a contrast of at least 3 to 1 on white (a test holds both).

Figures are 6.4 inches wide with 13 pt text: in a page 360 px wide that text is still 10 px high.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from loptrl.errors import LoptrlError

__all__ = [
    "COLOURS",
    "FRICTION",
    "GREY",
    "HEIGHTS",
    "INK",
    "LABELS",
    "METRICS",
    "RC",
    "STRENGTH",
    "VARIANTS",
    "WIDTH",
    "BookFigure",
    "Look",
    "Metric",
    "context",
    "format_number",
    "format_steps",
    "inches",
    "label",
    "look",
    "mixed",
    "new_figure",
    "provenance",
    "save",
]

COLOURS: dict[str, str] = {
    "adam": "#2057b8",
    "adam_equal_betas": "#eb7100",
    "rmsprop": "#5d5d76",
    "optim4rl": "#9e0707",
    "open": "#26a670",
    "open_multi": "#051510",
    "velo": "#7e00fc",
}

LABELS: dict[str, str] = {
    "adam": "Adam",
    "adam_equal_betas": "Adam, equal betas",
    "rmsprop": "RMSProp",
    "optim4rl": "Optim4RL",
    "open": "OPEN",
    "open_multi": "OPEN (multi-task)",
    "velo": "VeLO",
}

INK = "#1a1a1a"
GREY = "#6b6b6b"
FRICTION = "#7a5c2e"
STRENGTH = "#3d3d3d"

# Variant -> (line style, how far the colour moves to white (> 0) or to black (< 0), words).
VARIANTS: dict[str, tuple[Any, float, str]] = {
    "stationary": ((0, (2.4, 1.0)), 0.35, "stationary"),
    "second": ((0, (5, 1.6)), -0.30, "second setting"),
    "no_ratio_clip": ((0, (5, 1.6)), -0.45, "no ratio clip"),
    "no_gradient_clip": ((0, (4, 1.2, 1, 1.2)), 0.30, "no gradient clip"),
    "no_clip": ((0, (1.2, 1.2)), -0.70, "no clip at all"),
    "l2": ((0, (5, 1.6)), 0.25, "with L2"),
    "no_pipeline": ((0, (4, 1.2, 1, 1.2)), -0.40, "no pipeline training"),
    "transferred": ((0, (5, 1.6)), -0.60, "trained without drift"),
    "curriculum": ((0, (4, 1.2, 1, 1.2)), 0.35, "curriculum"),
    "reduced": ((0, (1.2, 1.2)), -0.70, "reduced sizes"),
    "long": ((0, (6, 1.4, 1, 1.4, 1, 1.4)), -0.50, "longer meta-training"),
    "small_step": ((0, (2.4, 1.0)), 0.35, "shorter steps"),
    "long_step": ((0, (5, 1.6)), 0.35, "longer steps"),
    "random": ((0, (2.4, 1.0)), -0.20, "random weights"),
    "first_generations": ((0, (1.2, 1.2)), -0.10, "after its first generations"),
    "evolved": ((0, (4, 1.2, 1, 1.2)), -0.35, "evolved here"),
    "evolved_two": ((0, (5, 1.6)), -0.65, "evolved here on two games"),
    "published": ((0, (2.4, 1.0)), -0.10, "the authors' weights"),
    "untrained": ((0, (1.2, 1.2)), 0.35, "untrained"),
}


@dataclass(frozen=True)
class Look:
    """How one arm is drawn: `color` (hex), `linestyle` (matplotlib's), `label` (words)."""

    color: str
    linestyle: Any
    label: str


def mixed(color: str, amount: float) -> str:
    """`color` moved by `|amount|` to white (amount > 0) or to black (amount < 0)."""
    target = 1.0 if amount > 0 else 0.0
    weight = abs(amount)
    return to_hex([(1 - weight) * c + weight * target for c in to_rgb(color)])


def look(key: str) -> Look:
    """The look of "optimizer" or "optimizer:variant", such as "adam:no_ratio_clip".

    Raises:
      LoptrlError: on a name that is not in COLOURS or VARIANTS.
    """
    optimizer, _, variant = key.partition(":")
    if optimizer not in COLOURS or (variant and variant not in VARIANTS):
        raise LoptrlError(
            f"expected a style key OPTIMIZER or OPTIMIZER:VARIANT, got {key!r}; optimizers: "
            f"{', '.join(COLOURS)}; variants: {', '.join(VARIANTS)}"
        )
    if not variant:
        return Look(COLOURS[optimizer], "-", LABELS[optimizer])
    linestyle, amount, words = VARIANTS[variant]
    return Look(mixed(COLOURS[optimizer], amount), linestyle, f"{LABELS[optimizer]}, {words}")


def label(key: str) -> str:
    """The words for a style key, such as "Adam, no ratio clip"."""
    return look(key).label


@dataclass(frozen=True)
class Metric:
    """How a metric is drawn: `title` of its panel, `scale` "linear" or "log"."""

    title: str
    scale: str = "linear"


METRICS: dict[str, Metric] = {
    "eval_return": Metric("evaluation return"),
    "eval_return_std": Metric("return, spread"),
    "eval_episode_length": Metric("episode length"),
    "train_return": Metric("training return"),
    "train_episode_length": Metric("training episode length"),
    "largest_update": Metric("largest update, one weight", "log"),
    "update_norm": Metric("update norm", "log"),
    "update_norm_max": Metric("largest update norm", "log"),
    "implied_step": Metric("implied step size", "log"),
    "weight_norm": Metric("weight norm"),
    "dormant_fraction_actor": Metric("dormant, actor"),
    "dormant_fraction_critic": Metric("dormant, critic"),
    "feature_rank_actor": Metric("feature rank, actor"),
    "feature_rank_critic": Metric("feature rank, critic"),
    "approx_kl": Metric("approximate KL", "log"),
    "clip_fraction": Metric("clip fraction"),
    "entropy": Metric("entropy"),
    "value_error": Metric("value error", "log"),
    "grad_norm": Metric("gradient norm", "log"),
    "meta_loss": Metric("meta-loss"),
    "meta_grad_norm": Metric("meta-gradient norm", "log"),
    "meta_grad_norm_single": Metric("meta-gradient, one agent", "log"),
    "meta_agreement": Metric("agreement of meta-gradients"),
    "fitness_mean": Metric("fitness, mean"),
    "fitness_best": Metric("fitness, best"),
    "fitness_center": Metric("fitness, search mean"),
    "theta_norm": Metric("norm of the rule's weights"),
    "dynamics_friction": Metric("friction", "log"),
    "dynamics_actuator_strength": Metric("actuator strength"),
    "dynamics_damping": Metric("damping"),
    "dynamics_fault": Metric("fault"),
}

WIDTH = 6.4
HEIGHTS = {"short": 2.6, "normal": 4.4, "tall": 6.0}
DPI = 200

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "axes.labelsize": 13,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.titlepad": 6,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.linewidth": 0.9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.9,
    "text.color": INK,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "xtick.color": "#8a8a8a",
    "ytick.color": "#8a8a8a",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3.5,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.fontsize": 12.5,
    "legend.frameon": False,
    "legend.handlelength": 1.9,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.3,
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "loptrl",
    "svg.fonttype": "path",
    "path.simplify": True,
}


@contextmanager
def context() -> Iterator[None]:
    """Draw and save with this look, whatever the user's own matplotlib settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


class BookFigure(Figure):
    """A Figure that a notebook shows as a PNG, the same bytes each time, without pyplot."""

    def draw(self, renderer: Any) -> None:
        """Draw with this look: ticks are only made, and take their size, when drawn."""
        with context():
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        save(self, buffer, fmt="png")
        return buffer.getvalue()


def inches(height: str | float) -> float:
    """A height in inches, from a name of HEIGHTS or a number above 0."""
    if isinstance(height, str) and height in HEIGHTS:
        return HEIGHTS[height]
    if isinstance(height, str) or not height > 0:
        raise LoptrlError(
            f"expected a height of {', '.join(HEIGHTS)} or inches above 0, got {height!r}"
        )
    return float(height)


def new_figure(height: str | float = "normal", width: float = WIDTH) -> BookFigure:
    """An empty figure in constrained layout; call within `context()`.

    Args:
      height: inches, or a name of HEIGHTS.
      width: inches.
    """
    figure = BookFigure(figsize=(width, inches(height)), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05, hspace=0.03, wspace=0.05)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, target: str | Path | io.BytesIO, *, fmt: str | None = None) -> None:
    """Write a figure as PNG or SVG; the same figure gives the same bytes (no date, no salt).

    Raises:
      LoptrlError: on another format, or a place that cannot be written.
    """
    if fmt is None:
        fmt = Path(target).suffix.lstrip(".") if isinstance(target, (str, Path)) else "png"
    metadata: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None}}
    if fmt not in metadata:
        raise LoptrlError(f"expected a .png or .svg file, got {fmt!r}; choose one of the two")
    try:
        with context():
            figure.savefig(target, format=fmt, metadata=metadata[fmt])
    except OSError as error:
        raise LoptrlError(f"expected to write the figure to {target}, got: {error}") from error


def format_steps(steps: float) -> str:
    """Env steps in words that fit a tick: 0, 500k, 2M, 2.5M, 1B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        # 0.9995 keeps 999,999 from reading "1000k".
        if abs(steps) >= 0.9995 * size:
            return f"{steps / size:.3g}{unit}"
    return f"{steps:.3g}"


def format_number(value: float) -> str:
    """A tick of any other axis: thousands with a comma, else three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def provenance(
    *,
    keys: Sequence[str],
    seeds: int | Collection[int],
    env_steps: float | None = None,
    budget: str | None = None,
    device: str | None = None,
    command: str | None = None,
) -> str:
    """One line that says what a figure was made from and how to make it again.

    Args:
      keys: run keys; the first two are named, by eight digits, and the rest counted.
      seeds: seeds per arm: a number, or the numbers of the arms ("3 to 5 seeds").
      env_steps: of one run.
      budget, device, command: as they are; what is None or empty is left out.
    """
    names = [str(key)[:8] for key in keys]
    if not names:
        raise LoptrlError("expected at least one run key, got none; a figure names its runs")
    runs = ("run " if len(names) == 1 else "runs ") + ", ".join(names[:2])
    if len(names) > 2:
        runs += f" and {len(names) - 2} more"
    counts = sorted({seeds} if isinstance(seeds, int) else set(seeds))
    if not counts or counts[0] < 1:
        raise LoptrlError(f"expected at least one seed, got {seeds!r}; count the runs of an arm")
    spread = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = [runs, f"{spread} seed{'s' if counts[-1] > 1 else ''}"]
    if env_steps is not None:
        parts.append(f"{format_steps(env_steps)} env steps")
    if budget:
        parts.append(f"{budget} budget")
    parts += [text for text in (device, command) if text]
    return " | ".join(parts)
