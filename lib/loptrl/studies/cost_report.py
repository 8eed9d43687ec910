"""Study 7 in figures and words: what meta-training costs."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from loptrl import status_page, style
from loptrl.errors import MissingRun
from loptrl.plots.axes import legend, log_ticks
from loptrl.runs import Store
from loptrl.studies import changing_ant_report as shared
from loptrl.studies import meta_recipes, meta_runs, optim4rl_l2_report
from loptrl.studies.evidence import Compute, StudyEvidence, gather
from loptrl.studies.meta_cost import (
    AGENTS,
    EIGHT,
    ENVIRONMENTS,
    GIB,
    INNER_UPDATES,
    OFFICIAL,
    STUDY,
    WAYS,
    arm_name,
)
from loptrl.studies.published import published
from loptrl.studies.signed import note, signed
from loptrl.studies.words import paragraphs, plural

__all__ = [
    "gib",
    "headline",
    "load",
    "memory_figure",
    "memory_ratio",
    "on_causes",
    "on_gpu_time",
    "on_memory",
    "on_quality",
    "on_time",
    "overview",
    "seconds",
    "time_figure",
]


_RED = style.COLOURS["optim4rl"]
_DASHES: dict[str, Any] = {
    "official": "-",
    "physics": (0, (2.4, 1.0)),
    "nothing": (0, (1.2, 1.2)),
    "updates": "-",
    "iterations": (0, (5, 1.6)),
}


class CostEvidence(StudyEvidence):
    """Measurements of study 7; they have no length of their own."""

    def planned_length(self, arm: str) -> None:
        """Nothing: the compiler's analysis and a few meta-iterations."""


def load(
    budget: str = "laptop",
    compute: Compute = "auto",
    *,
    store: Store | None = None,
    progress: Any = "auto",
) -> CostEvidence:
    """The runs of study 7 at a budget, and what of them is missing.

    Args:
        budget: "smoke" or "laptop".
        compute: see `evidence.gather`.
        store: default the committed results.
        progress: see `loptrl.progress.Progress`.

    Raises:
        LoptrlError: an unknown budget.
        DamagedRun: a stored run is damaged and nothing may be run.
        Stopped: the measurement was stopped; the same call goes on.
    """
    asked, found = gather(
        STUDY,
        [(list(STUDY.arms), None)],
        budget,
        {},
        compute,
        committed=budget == "laptop",
        store=store,
        progress=progress,
    )
    return CostEvidence(STUDY, budget, {}, None, asked, found)


def gib(evidence: StudyEvidence, arm: str) -> float:
    """Peak memory of a meta-iteration by the compiler's analysis, in GiB; NaN where not stored."""
    return _value(evidence, arm, "compiled_bytes", np.nanmax) / GIB


def seconds(evidence: StudyEvidence, arm: str) -> float:
    """Time of a meta-iteration, the median of those that were timed; NaN where none was."""
    return _value(evidence, arm, "seconds", np.nanmedian)


def _value(
    evidence: StudyEvidence, arm: str, column: str, of: Callable[[np.ndarray], Any]
) -> float:
    if arm not in evidence.all_arms or not evidence.seeds(arm):
        return float("nan")
    frame = evidence.runs.frame(arm)
    values = frame[column].to_numpy(float) if column in frame else np.empty(0)
    return float(of(values)) if np.isfinite(values).any() else float("nan")


def memory_ratio(evidence: StudyEvidence, more: str, less: str) -> float | None:
    """Memory at the official size, one way (a name in `WAYS`) over another; None: unknown."""
    ratio = gib(evidence, arm_name(more, *OFFICIAL)) / gib(evidence, arm_name(less, *OFFICIAL))
    return float(ratio) if np.isfinite(ratio) else None


def headline(evidence: StudyEvidence) -> str:
    """The answer in one bold sentence."""
    ratio = memory_ratio(evidence, "official", "updates")
    if ratio is None:
        return "**The measurements that decide this are not stored: nothing can be said yet.**"
    most, least = (
        f"{gib(evidence, arm_name(way, *OFFICIAL)):.2f} GiB" for way in ("official", "updates")
    )
    return (
        "**At the official Ant's size, 2048 environments and 4 inner updates, the meta-gradient of "
        f"one agent needs {most} of memory when it is taken through the simulator with every "
        f"intermediate number kept, and {least} when the experience is a constant and the updates "
        "are computed again on the way back: "
        f"{ratio:.0f} times less.**"
    )


def on_causes(evidence: StudyEvidence) -> str:
    """What path, rematerialisation and number of agents have in the memory, each alone."""
    pairs = {
        "the path through the physics takes {:.1f} times the memory where nothing is "
        "rematerialised": ("official", "nothing"),
        "{:.1f} times where updates are": ("physics", "updates"),
        "rematerialised updates save a factor of {:.1f} with rollouts as data": (
            "nothing",
            "updates",
        ),
    }
    ratios = {words: memory_ratio(evidence, *ways) for words, ways in pairs.items()}
    parts = [words.format(ratio) for words, ratio in ratios.items() if ratio is not None]
    words = [
        f"At the official size {'; '.join(parts)}." if parts else "No sizes can be compared yet."
    ]
    eight = gib(evidence, arm_name("updates", *EIGHT))
    if np.isfinite(eight):
        words.append(
            "Eight such agents on one device, stepped one after another, need "
            f"{eight:.2f} GiB with rollouts as data and rematerialised updates."
        )
    return " ".join(words)


def memory_figure(evidence: StudyEvidence) -> Figure:
    """Peak memory against environments, inner updates and agents, one line for each way."""
    return _figure(evidence, gib, "GiB")


def time_figure(evidence: StudyEvidence) -> Figure:
    """Time of a meta-iteration against environments, inner updates and agents, by way."""
    return _figure(evidence, seconds, "seconds")


_PANELS: Mapping[str, tuple[Sequence[int], Callable[[str, int], str]]] = {
    "environments": (ENVIRONMENTS, lambda way, n: arm_name(way, n, 4, 1)),
    "inner updates": (INNER_UPDATES, lambda way, k: arm_name(way, 128, k, 1)),
    "agents": (AGENTS, lambda way, n: arm_name(way, 128, 4, n)),
}


def _figure(
    evidence: StudyEvidence, value: Callable[[StudyEvidence, str], float], unit: str
) -> Figure:
    drawn: list[str] = []
    with style.context():
        figure = style.new_figure(3.6)
        grid = figure.subplots(1, len(_PANELS), sharey=True)
        handles = {}
        for axes, (_, (sizes, name)) in zip(grid, _PANELS.items(), strict=True):
            for way, words in WAYS.items():
                arms = {size: name(way, size) for size in sizes}
                if sum(arm in evidence.all_arms for arm in arms.values()) < 2:
                    continue  # A point is no line; the table holds it.
                found = {size: value(evidence, arm) for size, arm in arms.items()}
                found = {size: y for size, y in found.items() if np.isfinite(y)}
                if not found:
                    continue
                color = style.GREY if way in ("official", "physics") else _RED
                drawn += [arms[size] for size in found if arms[size] not in drawn]
                (handle,) = axes.plot(
                    list(found),
                    list(found.values()),
                    marker="o",
                    ms=5,
                    color=color,
                    mfc="white" if way == "iterations" else color,
                    ls=_DASHES[way],
                    label=words,
                )
                handles[way] = handle
            axes.set_title(unit)
        if not drawn:
            return note("Not drawn: no measurement is stored.")
        for axes, (xlabel, (sizes, _)) in zip(grid, _PANELS.items(), strict=True):
            _doubling(axes, sizes, xlabel)
        _log_heights(grid)
        legend(figure, list(handles.values()))
    return signed(figure, evidence, drawn)


def _doubling(axes: Axes, sizes: Sequence[int], xlabel: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set_xlabel(xlabel)


def _log_heights(grid: Sequence[Axes]) -> None:
    """Ticks for the height that the panels share, from the lines of all; a panel may have none."""
    heights = [axes.dataLim.intervaly for axes in grid if axes.lines]
    shared = grid[0]
    shared.set_yscale("log")
    log_ticks(shared.yaxis, float(np.min(heights)), float(np.max(heights)))
    shared.yaxis.set_minor_locator(NullLocator())
    shared.yaxis.set_major_formatter(FuncFormatter(lambda y, _: style.format_number(y)))


def on_memory(evidence: StudyEvidence) -> str:
    """Every size in a table: the compiler's memory, the process's, and the time."""
    rows = []
    for arm in evidence.present(*evidence.all_arms):
        way, *sizes = arm.split(".")
        process = _value(evidence, arm, "process_bytes", np.nanmax) / GIB
        rows.append(
            (
                WAYS[way],
                *sizes,
                f"{gib(evidence, arm):.3f}",
                _shown(process, ".2f"),
                _shown(seconds(evidence, arm), ".2f"),
            )
        )
    columns = ["way", "envs", "inner updates", "agents", "GiB, compiler", "GiB, process", "seconds"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns))


def on_time(evidence: StudyEvidence) -> str:
    """What rematerialisation and the path through the physics cost in time."""
    base = seconds(evidence, arm_name("updates", 128, 4, 1))
    parts = []
    for way, words in WAYS.items():
        ratio = seconds(evidence, arm_name(way, 128, 4, 1)) / base
        if way != "updates" and np.isfinite(ratio):
            parts.append(f"{words} {ratio:.1f}")
    if not parts:
        return "No times are stored."
    return (
        "With 128 environments, 4 inner updates and one agent, in multiples of the time of this "
        f"project's default ({WAYS['updates']}, {base:.1f} s): {'; '.join(parts)}."
    )


def on_quality(store: Store | None = None) -> str:
    """Final returns with rules of the full and of the reduced size, and the verdict on C14.

    Args:
        store: of study 2's runs; default the committed results.

    Raises:
        DamagedRun: a run is stored and damaged.
    """
    evidence = optim4rl_l2_report.load(compute="never", store=store)
    gain = shared.gain(evidence, "drift", "reduced")
    return paragraphs(
        [
            shared.finals(evidence, ("drift", "reduced")),
            f"The full size minus the reduced {gain}." if gain else "",
            *shared.decided(optim4rl_l2_report.claims(evidence), optim4rl_l2_report.SAID, "C14"),
        ]
    )


def on_gpu_time(store: Store | None = None) -> str:
    """The published speed and that of this book's stored meta-trainings, as device hours.

    Args:
        store: of the meta-trainings; default the committed results.

    Raises:
        DamagedRun: a meta-training is stored and damaged.
    """
    known = published("optim4rl_meta_training.csv").set_index("quantity")["value"]
    steps, settings = known["env_steps"], known["search_settings"]

    def hours(rate: float, devices: float = 1) -> str:
        one = steps / rate / 3600 * devices
        return (
            f"{one:.2g} device hours for {style.format_steps(steps)} env steps, "
            f"{one * settings:.0f} for all {settings} settings of the published search"
        )

    rate, devices = known["env_steps_per_second"], known["devices"]
    parts = [
        f"The report's authors log {rate:,.0f} env steps per second for the official Ant "
        f"meta-training on {devices} devices: {hours(rate, devices)}. That is arithmetic from "
        "their logs."
    ]
    on_gpu, on_cpu = _meta_trainings(Store() if store is None else store)
    for device, made in on_gpu.items():
        rates = [one["env_steps_per_s"] for one in made]
        several = len(rates) > 1
        parts.append(
            f"Of this book's own meta-trainings with as many environments in all, 256 an agent, "
            f"{len(rates)} ran on {device}: "
            f"{f'{min(rates):,.0f} to ' if several else ''}{max(rates):,.0f} env steps per second"
            f"{' each' if several else ''}, compiling included. At the "
            f"{'lowest of these rates' if several else 'same rate'} that is {hours(min(rates))}."
        )
        if several and _side_by_side(made):
            parts.append(
                "They ran at the same time, and if it was one device it made "
                f"{sum(rates):,.0f} for them together: {hours(sum(rates))}."
            )
    if not on_gpu:
        parts.append("None of this book's own was made on a GPU.")
    told = []
    for cores, rates in sorted(on_cpu.items()):
        several = len(rates) > 1
        told.append(
            f"{len(rates)} ran on {cores} {plural('core', cores)} of a CPU: "
            f"{f'{min(rates):,.0f} to ' if several else ''}{max(rates):,.0f} env steps per second"
            f"{', at the lowest of these rates' if several else ', which is'} "
            f"{steps / min(rates) / 3600:.2g} hours for {style.format_steps(steps)}"
        )
    if told:
        parts.append(f"Of the others {'; '.join(told)}.")
    return " ".join(parts)


def _meta_trainings(
    store: Store,
) -> tuple[dict[str, list[Mapping[str, Any]]], dict[int, list[float]]]:
    """Of the official size and stored: manifests by GPU, and env steps/s by cores of a CPU."""
    official = meta_recipes.recipe("optim4rl", "stationary").config
    on_gpu, on_cpu = {}, {}
    for name, recipe in meta_recipes.RECIPES["optim4rl"].items():
        if recipe.config.env_steps_per_slice != official.env_steps_per_slice:
            continue
        with contextlib.suppress(MissingRun):
            made = store.read(meta_runs.meta_spec(name, recipe.config)).manifest
            if " x gpu " in made["device"]:
                on_gpu.setdefault(made["device"], []).append(made)
            elif cores := re.search(r", (\d+) cores\)$", made["device"]):
                on_cpu.setdefault(int(cores[1]), []).append(made["env_steps_per_s"])
    return on_gpu, on_cpu


def _side_by_side(made: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs share nine tenths of the time of the longest, by when they ended.

    Devices of one name are taken for one device.
    """
    ends = [datetime.datetime.fromisoformat(one["created"]).timestamp() for one in made]
    starts = [end - one["wall_time_s"] for end, one in zip(ends, made, strict=True)]
    return min(ends) - max(starts) > 0.9 * max(one["wall_time_s"] for one in made)


def overview(evidence: StudyEvidence) -> str:
    """What is missing."""
    missing = evidence.missing()
    if not missing:
        return "Every measurement is stored."
    return (
        f"Missing: {len(missing)} of {len(evidence.asked)} measurements. They are neither drawn "
        f"nor guessed; `{evidence.command()}` makes them."
    )


def _shown(value: float, form: str) -> str:
    return format(value, form) if np.isfinite(value) else "not run"
