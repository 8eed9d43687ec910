"""The stored runs of study 1 as one object: what is there, what is missing, and its curves."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from loptrl import stats
from loptrl.errors import LoptrlError, MissingRun
from loptrl.ppo.config import PPOConfig
from loptrl.runs import Results, Run, RunSpec, Store
from loptrl.specs import plain
from loptrl.studies.adam_collapse import CONTROL_FRICTIONS, PERIOD, STUDY
from loptrl.style import format_steps

__all__ = ["CONTROLS", "WINDOW", "Compute", "Evidence", "load"]

Compute = Literal["auto", "missing", "never", "always"]

CONTROLS = {f"control_{friction:g}": friction for friction in CONTROL_FRICTIONS}
"""The arms of the regime controls, each with its friction."""

WINDOW = 400_000
"""Env steps that count as "after a change" of friction: a fifth of a regime, two evaluations."""

Curve = tuple[np.ndarray, np.ndarray]


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    *,
    store: Store | None = None,
    progress: Any = "auto",
) -> Evidence:
    """The runs of the study at a budget, and what of them is missing.

    Args:
        budget: "smoke", "laptop" or "paper".
        env_steps: length of every run; 0 for the budget's own lengths.
        seeds: seeds of every arm, of the controls at most the budget's own; 0 for the budget's own.
        compute: "never" takes what is stored and trains nothing; "missing" trains what the store
            lacks; "always" trains everything anew; "auto" is "never" for the committed evidence
            (the default of the three above) and "missing" for anything else.
        store: default the committed results.
        progress: see `loptrl.progress.Progress`.

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    if compute not in ("auto", "missing", "never", "always"):
        raise LoptrlError(
            f"compute must be one of auto, missing, never and always, got {compute!r}"
        )
    if compute == "auto":
        compute = "never" if (budget, env_steps, seeds) == ("laptop", 0, 0) else "missing"
    settings: dict[str, Any] = {"env_steps": int(env_steps)} if env_steps else {}
    main = [name for name in STUDY.arms if name not in CONTROLS]
    store = Store() if store is None else store
    asked, runs = [], []
    # A control is a yardstick: more seeds of the arms do not ask for more seeds of it.
    own = len(STUDY.specs(budget, list(CONTROLS)[:1]))
    yardsticks = min(seeds, own) if seeds > 0 else None
    for arms, count in ((main, seeds or None), (list(CONTROLS), yardsticks)):
        specs = STUDY.specs(budget, arms, count, **settings)
        asked += specs
        if compute == "never":
            runs += [run for run in (_stored(spec, store) for spec in specs) if run is not None]
        else:
            runs += STUDY.load_or_run(
                budget, arms, count, compute=compute, store=store, progress=progress, **settings
            ).runs
    return Evidence(budget, settings, seeds or None, tuple(asked), Results(runs))


def _stored(spec: RunSpec, store: Store) -> Run | None:
    try:
        return store.read(spec)
    except MissingRun:
        return None


@dataclass(frozen=True, eq=False)
class Evidence:
    """Runs of the study with one budget and length.

    Attributes:
        budget: their budget.
        settings: what replaces the budget's own settings.
        asked_seeds: seeds of every arm but the controls, or None for the budget's own.
        asked: the runs that make the evidence complete.
        runs: those that are there.
    """

    budget: str
    settings: Mapping[str, Any]
    asked_seeds: int | None
    asked: tuple[RunSpec, ...]
    runs: Results

    def seeds(self, arm: str) -> int:
        """Stored seeds of an arm."""
        return sum(run.spec.arm == arm for run in self.runs.runs)

    def planned(self, arm: str) -> int:
        """Seeds of an arm when nothing is missing."""
        return sum(spec.arm == arm for spec in self.asked)

    def has(self, *arms: str) -> bool:
        """Whether every one of these arms has at least one stored run."""
        return all(self.seeds(arm) for arm in arms)

    def present(self, *arms: str) -> list[str]:
        """Those of these arms that have a stored run."""
        return [arm for arm in arms if self.seeds(arm)]

    def missing(self) -> dict[str, int]:
        """Arms that lack runs, and how many."""
        lacking = {arm: self.planned(arm) - self.seeds(arm) for arm in STUDY.arms}
        return {arm: count for arm, count in lacking.items() if count > 0}

    def command(self, *arms: str) -> str:
        """The command that computes these arms, or everything that is asked for."""
        seeds = None if set(arms) <= set(CONTROLS) and arms else self.asked_seeds
        return STUDY.command(self.budget, list(arms) or None, seeds, **self.settings)

    def planned_length(self, arm: str) -> int:
        """Env steps that were asked for of an arm's runs."""
        return self._config(arm).env_steps

    def length(self, arm: str) -> int:
        """Env steps of the last row of an arm's runs that is looked at."""
        return int(self.grid(arm)[-1])

    def grid(self, arm: str) -> np.ndarray:
        """Env steps of the rows of a run that does not diverge, [num_rows], from 0.

        A run ends on a whole evaluation slice. A last row past the length that was asked for is
        left out: it would stand in a regime that the design does not have.
        """
        rows = self._all_rows(arm)
        return rows[rows <= max(self._config(arm).env_steps, rows[1])]

    def _all_rows(self, arm: str) -> np.ndarray:
        config = self._config(arm)
        return np.arange(config.num_slices + 1) * config.env_steps_per_slice

    def whole(self, arm: str) -> Results:
        """The arm's runs that did not diverge."""
        return Results([r for r in self.runs.runs if r.spec.arm == arm and r.diverged_at is None])

    def diverged(self, arm: str) -> int:
        """How many of the arm's stored runs diverged."""
        return self.seeds(arm) - len(self.whole(arm).runs)

    def returns(self, arm: str) -> Curve:
        """Evaluation returns of an arm: env steps [num_rows], values [num_seeds, num_rows].

        After a divergence a run counts as the random policy (`stats.fill_diverged`).
        """
        values = self._rows(arm, "eval_return")
        return self.grid(arm), stats.fill_diverged(values, self.random_return)

    def metric(self, arm: str, name: str) -> Curve:
        """A metric of the arm's runs that did not diverge, on the rows that measure it.

        Raises:
            LoptrlError: every run diverged, or none has the metric.
        """
        steps, values = self.whole(arm).curve(arm, name)
        kept = steps <= self.length(arm)
        return steps[kept], values[:, kept]

    def relative(self, arm: str) -> Curve:
        """Returns divided by what the regime controls reach at the friction in force.

        Raises:
            LoptrlError: a control is missing or has no return above 0 (`no_relative` says which).
        """
        problem = self.no_relative()
        if problem:
            raise LoptrlError(f"expected a return above 0 of every regime control, but {problem}")
        steps, returns = self.returns(arm)
        control = self.controls()
        values = stats.regime_relative(
            returns, self.friction(arm), list(control), list(control.values())
        )
        return steps, values

    def friction(self, arm: str) -> np.ndarray:
        """The friction in force, [num_seeds, num_rows]; held where a diverged run has ended."""
        return _held(self._rows(arm, "dynamics_friction"))

    def strength(self, arm: str) -> np.ndarray:
        """Mean actuator strength, [num_seeds, num_rows]; held where a diverged run has ended."""
        return _held(self._rows(arm, "dynamics_actuator_strength"))

    def update_norms(self, arm: str) -> Curve:
        """The largest update norm since the row before; 0 at 0 env steps, before any update.

        A diverged run keeps the largest norm it had: what came then was larger still.
        """
        values = self._rows(arm, "update_norm_max")
        values[:, 0] = 0.0
        largest = np.array([np.max(v[np.isfinite(v)]) for v in values])
        return self.grid(arm), np.where(np.isfinite(values), values, largest[:, None])

    def controls(self) -> dict[float, float]:
        """Friction -> final return of its control, mean over its seeds; those that are stored."""
        found = {}
        for arm, friction in CONTROLS.items():
            if self.seeds(arm):
                found[friction] = float(np.mean(stats.final(*self.returns(arm))))
        return found

    def no_relative(self) -> str | None:
        """Why returns cannot be compared with the controls, or None when they can."""
        absent = [f"{f:g}" for arm, f in CONTROLS.items() if not self.seeds(arm)]
        if absent:
            return f"the controls at friction {_listed(absent)} have no stored run"
        poor = [f"{f:g}" for f, value in self.controls().items() if value <= 0]
        if poor:
            return f"the controls at friction {_listed(poor)} end without a return above 0"
        return None

    @functools.cached_property
    def random_return(self) -> float:
        """Mean over all stored runs of the first row: the untrained policy, actions sampled."""
        first = [
            run.frame.loc[run.frame["env_steps"] == 0, "eval_return"] for run in self.runs.runs
        ]
        values = np.concatenate([np.asarray(part, dtype=np.float64) for part in first])
        if not values.size:
            raise LoptrlError("expected a row at 0 env steps in the stored runs, got none")
        return float(values.mean())

    def reports(self, arm: str) -> list[stats.RunReport]:
        """Dips and collapse of every seed."""
        steps, returns = self.returns(arm)
        return stats.collapse_reports(steps, returns, random_return=self.random_return)

    def changes(self, arm: str = "adam") -> np.ndarray:
        """Env steps at which the friction changed with a whole window left, [num_changes]."""
        last = self.length(arm)
        return np.array([c for c in range(PERIOD, last, PERIOD) if c + WINDOW <= last])

    def what(self) -> str:
        """The evidence in words: "laptop budget, 20M env steps a run"."""
        return f"{self.budget} budget, {format_steps(self.planned_length('adam'))} env steps a run"

    def _config(self, arm: str) -> PPOConfig:
        spec = next(spec for spec in self.asked if spec.arm == arm)
        return PPOConfig.from_dict(plain(spec.config))

    def _rows(self, arm: str, metric: str) -> np.ndarray:
        """[num_seeds, num_rows] on the arm's grid; NaN where a run has no row."""
        grid = self._all_rows(arm)
        values = np.full((self.seeds(arm), grid.size), np.nan)
        for row, run in zip(values, self.runs.of(arm), strict=True):
            steps = run.frame["env_steps"].to_numpy()
            at = np.searchsorted(grid, steps)
            if steps[-1] > grid[-1] or not np.array_equal(grid[at], steps):
                raise LoptrlError(
                    f"expected rows of {run.spec.label} at multiples of {grid[1]:,} env steps, got "
                    "others; delete the run and compute it again"
                )
            row[at] = run.frame[metric].to_numpy(np.float64)
        return values[:, : self.grid(arm).size]


def _held(values: np.ndarray) -> np.ndarray:
    """Every missing entry replaced by the last one before it."""
    rows = np.where(np.isfinite(values), np.arange(values.shape[1]), 0)
    return np.take_along_axis(values, np.maximum.accumulate(rows, axis=1), axis=1)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
