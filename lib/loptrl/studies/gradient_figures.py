"""Figures of study 8; arms without stored runs are left out, small print names the runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from loptrl import plots, stats, style
from loptrl.meta.config import EDGES
from loptrl.plots.axes import legend, number_axis, step_axis
from loptrl.studies.gradient_evidence import GradientEvidence, pipeline_pools
from loptrl.studies.gradient_statistics import INNER_UPDATES, LIFE, PATHS, WORLDS, arm_name
from loptrl.studies.signed import note, signed
from loptrl.studies.words import interval

__all__ = ["age_figure", "histogram_figure", "updates_figure", "whole_figure"]

_NOTHING = "Not drawn: no run of these arms is stored."

_COLOURS = {
    "data": style.COLOURS["optim4rl"],
    "critic": style.COLOURS["adam_equal_betas"],
    "physics": style.GREY,
}
_DASHES = {"still": (0, (2.4, 1.0)), "changing": "-"}
_FACES = {"still": "white", "changing": None}
_WORDS = {
    ("data", "still"): "rollouts as data, nothing changes",
    ("data", "changing"): "rollouts as data, under change",
    ("critic", "still"): "as data, no policy's part, nothing changes",
    ("critic", "changing"): "as data, no policy's part, under change",
    ("physics", "still"): "through physics, nothing changes",
    ("physics", "changing"): "through physics, under change",
}

PANELS = {
    "meta_agreement": "cosine between agents",
    "meta_sign_agreement": "share of equal signs",
    "noise": "variance / squared norm",
    "meta_grad_norm_single": "norm, one agent",
}


def updates_figure(evidence: GradientEvidence, size: str) -> Figure:
    """Norm, noise and agreement of meta-gradients against the number of inner updates.

    Args:
        evidence: the runs.
        size: "full" or "small".
    """
    return _against_updates(evidence, size, PATHS[size], PANELS)


def whole_figure(evidence: GradientEvidence) -> Figure:
    """How the meta-gradient whose inputs are held fixed compares with the whole one."""
    panels = {
        "whole_angle": "angle to the whole one, degrees",
        "whole_norm_ratio": "ratio of the norms",
    }
    return _against_updates(evidence, "small", ("data",), panels)


def _against_updates(
    evidence: GradientEvidence,
    size: str,
    paths: Sequence[str],
    panels: dict[str, str],
) -> Figure:
    lines = [(path, world) for path in paths for world in WORLDS]
    arms = {
        (path, world, k): arm_name(size, path, world, k)
        for path, world in lines
        for k in INNER_UPDATES[size]
    }
    there = [arm for arm in arms.values() if evidence.whole(arm).runs]
    if not there:
        return note(_NOTHING)
    rows = -(-len(panels) // 2)
    with style.context():
        figure = style.new_figure(rows * 2.0 + 0.8)
        grid = figure.subplots(rows, 2, sharex=True, squeeze=False)
        handles = {}
        for axes, (metric, title) in zip(grid.flat, panels.items(), strict=True):
            for shift, line in zip(np.linspace(-0.15, 0.15, len(lines)), lines, strict=True):
                seeds = {k: evidence.per_seed(arms[*line, k], metric) for k in INNER_UPDATES[size]}
                found = {k: interval(v, stats.mean) for k, v in seeds.items() if v.size}
                if not found:
                    continue
                x = np.log2(list(found)) + shift
                y = np.array([[e.value, e.low, e.high] for e in found.values()]).T
                color, dashes = _COLOURS[line[0]], _DASHES[line[1]]
                axes.vlines(x, y[1], y[2], color=color, lw=3, alpha=0.5)
                (handle,) = axes.plot(
                    x,
                    y[0],
                    "o",
                    ls=dashes,
                    lw=1.4,
                    color=color,
                    ms=6,
                    mfc=_FACES[line[1]] or color,
                    label=_WORDS[line],
                )
                handles[line] = handle
            number_axis(axes.yaxis)
            if metric == "whole_norm_ratio":  # its ticks differ in the third digit only
                axes.yaxis.set_major_formatter("{x:.3f}")
            axes.set_title(title)
        for axes in grid[-1]:
            axes.set_xticks(np.log2(INNER_UPDATES[size]), [str(k) for k in INNER_UPDATES[size]])
            axes.set_xlim(-0.4, np.log2(INNER_UPDATES[size][-1]) + 0.4)
            axes.set_xlabel("inner updates")
        legend(figure, list(handles.values()))
    return signed(figure, evidence, there)


def age_figure(evidence: GradientEvidence) -> Figure:
    """Agreement and norm of the meta-gradients as agents grow older."""
    arms = {world: arm_name("full", "data", world, 4) for world in WORLDS}
    there = [arm for arm in arms.values() if evidence.whole(arm).runs]
    if not there:
        return note(_NOTHING)
    names = {arms["still"]: "nothing changes", arms["changing"]: "under change"}
    panels = {
        metric: {names[arm]: evidence.metric(arm, metric) for arm in there}
        for metric in ("meta_agreement", "meta_grad_norm_single", "grad_norm", "train_return")
    }
    looks = {"nothing changes": "optim4rl:stationary", "under change": "optim4rl"}
    figure = plots.diagnostics(panels, looks=looks)
    return signed(figure, evidence, there)


def histogram_figure(evidence: GradientEvidence) -> Figure:
    """The sizes of an agent's gradient entries by age, and what one time sees of them.

    Beneath the heat maps: agents of one age at three times of a life, and staggered ones at all.
    """
    arms = [arm_name("full", "data", world, 4) for world in WORLDS]
    there = [arm for arm in arms if evidence.whole(arm).runs]
    if not there:
        return note(_NOTHING)
    colours = LinearSegmentedColormap.from_list(
        "shares", ["white", style.COLOURS["optim4rl"], style.INK]
    )
    with style.context():
        figure = style.new_figure(6.2)
        grid, under = figure.subplots(2, len(there), sharey="row", squeeze=False)
        for axes, below, arm in zip(grid, under, there, strict=True):
            ages, shares = evidence.histograms(arm)
            mean = _density(shares)
            edges = np.concatenate([[0.0], ages])
            drawn = axes.pcolormesh(edges, EDGES, mean.T, cmap=colours, vmin=0, vmax=1)
            axes.set_title("nothing changes" if ".still." in arm else "under change")
            axes.set_xlabel("env steps of one agent")
            axes.set_ylim(-8, 0)
            step_axis(axes, float(ages[-1]), ticks=3)
            handles = _pools(below, shares[:, :LIFE])
        grid[0].set_ylabel("log10 of an entry's size")
        under[0].set_ylabel("share per decade")
        figure.colorbar(drawn, ax=list(grid), label="share per decade")
        legend(figure, handles)
    return signed(figure, evidence, there)


def _density(shares: np.ndarray) -> np.ndarray:
    """Shares per decade, mean over seeds, [num_ages, num_bins], without what lies outside."""
    return shares.mean(axis=0)[:, 1:-1] / (EDGES[1] - EDGES[0])


def _pools(axes: Axes, shares: np.ndarray) -> list[Line2D]:
    """What one time sees: agents of one age at three ages, and staggered ones, a band over time."""
    centres = (EDGES[1:] + EDGES[:-1]) / 2
    alike, staggered = _density(shares), _density(pipeline_pools(shares))
    color, last = style.COLOURS["optim4rl"], len(alike) - 1
    lines = [
        axes.plot(
            centres, alike[age], color=style.mixed(color, amount), ls=dashes, lw=1.6, label=words
        )[0]
        for age, amount, dashes, words in (
            (0, 0.45, (0, (1.2, 1.2)), "one age: young"),
            (last // 2, 0.2, (0, (5, 1.6)), "one age: half a life"),
            (last, 0.0, "-", "one age: a whole life"),
        )
    ]
    axes.fill_between(
        centres, staggered.min(axis=0), staggered.max(axis=0), color=style.INK, alpha=0.25, lw=0
    )
    lines += axes.plot(
        centres, staggered.mean(axis=0), color=style.INK, lw=1.6, label="staggered ages"
    )
    axes.set_xlim(-8, 0)
    axes.set_xlabel("log10 of an entry's size")
    return lines
