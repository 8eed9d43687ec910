"""The stored runs of a study as one object: what is there, what is missing, and its curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from loptrl import stats
from loptrl.errors import LoptrlError
from loptrl.ppo.config import PPOConfig
from loptrl.runs import Results, RunSpec, Store
from loptrl.specs import plain
from loptrl.studies.base import Arm, Study

__all__ = ["Compute", "Curve", "StudyEvidence", "gather", "held"]

Compute = Literal["auto", "missing", "never", "always"]

Curve = tuple[np.ndarray, np.ndarray]


def gather(
    study: Study,
    groups: Sequence[tuple[Sequence[str], int | None]],
    budget: str,
    settings: Mapping[str, Any],
    compute: Compute,
    *,
    committed: bool,
    store: Store | None = None,
    progress: Any = "auto",
) -> tuple[tuple[RunSpec, ...], Results]:
    """The runs that are asked for, and those that are there.

    Args:
        study: their study.
        groups: arms, and seeds of each of them (None for the budget's own).
        budget: "smoke", "laptop" or "paper".
        settings: fields of `PPOConfig` that replace the arms' own.
        compute: "never" takes what is stored and trains nothing; "missing" trains what the store
            lacks; "always" trains everything anew; "auto" is "never" for the committed evidence
            and "missing" for anything else. Arms without weights here are never trained.
        committed: whether this is the committed evidence.
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
        compute = "never" if committed else "missing"
    store = Store() if store is None else store
    asked: list[RunSpec] = []
    runs: list[Any] = []
    for arms, seeds in groups:
        known = [arm for arm in arms if study.weights_of(arm) != "unknown"]
        asked += study.specs(budget, known, seeds, **settings)
        trained = [arm for arm in known if study.weights_of(arm) != "absent"]
        if compute == "never":
            trained = []
        stored = [arm for arm in known if arm not in trained]
        if trained:
            runs += study.load_or_run(
                budget, trained, seeds, compute=compute, store=store, progress=progress, **settings
            ).runs
        runs += study.load_stored(budget, stored, seeds, store=store, **settings).runs
    return tuple(asked), Results(runs)


@dataclass(frozen=True, eq=False)
class StudyEvidence:
    """Runs of a study with one budget and length.

    Attributes:
        study: the study.
        budget: their budget.
        settings: what replaces the budget's own settings.
        asked_seeds: seeds of every arm, or None for the budget's own.
        asked: the runs that make the evidence complete.
        runs: those that are there.
    """

    study: Study
    budget: str
    settings: Mapping[str, Any]
    asked_seeds: int | None
    asked: tuple[RunSpec, ...]
    runs: Results

    @property
    def all_arms(self) -> Mapping[str, Arm]:
        """The arms that the evidence can hold, by name."""
        return self.study.arms

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
        lacking = {arm: self.planned(arm) - self.seeds(arm) for arm in self.all_arms}
        return {arm: count for arm, count in lacking.items() if count > 0}

    def command(self, *arms: str) -> str:
        """The command that computes these arms, or everything that is asked for."""
        return self.study.command(
            self.budget, list(arms) or None, self.asked_seeds, **self.settings
        )

    def planned_length(self, arm: str) -> int | None:
        """Env steps that were asked for of an arm's runs; None: they have no length."""
        return int(self._spec(arm).config["env_steps"])

    def length(self, arm: str) -> int:
        """Env steps of the last row of an arm's runs that is looked at."""
        return int(self.grid(arm)[-1])

    def grid(self, arm: str) -> np.ndarray:
        """Env steps of the rows of a run that does not diverge, [num_rows], from 0.

        A run ends on a whole evaluation slice. A last row past the length that was asked for is
        left out: it would stand in a regime that the design does not have.
        """
        rows = self._all_rows(arm)
        return rows[rows <= max(self.config(arm).env_steps, rows[1])]

    def _all_rows(self, arm: str) -> np.ndarray:
        config = self.config(arm)
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
        values = self.rows(arm, "eval_return")
        return self.grid(arm), stats.fill_diverged(values, self.random_return_on(arm))

    def metric(self, arm: str, name: str) -> Curve:
        """A metric of the arm's runs that did not diverge, on the rows that measure it.

        Raises:
            LoptrlError: every run diverged, or none has the metric.
        """
        steps, values = self.whole(arm).curve(arm, name)
        kept = steps <= self.length(arm)
        return steps[kept], values[:, kept]

    def random_return_on(self, arm: str) -> float:
        """The untrained policy's return in an arm's world, actions sampled.

        Mean over all stored runs in that world of the row at 0 env steps.

        Raises:
            LoptrlError: no run in that world is stored.
        """
        world = self.config(arm).world
        first = [
            run.frame.loc[run.frame["env_steps"] == 0, "eval_return"]
            for run in self.runs.runs
            if run.spec.config["world"] == world
        ]
        values = np.concatenate([np.empty(0), *(np.asarray(part, float) for part in first)])
        if not values.size:
            raise LoptrlError(f"expected a row at 0 env steps of a run in {world}, got none")
        return float(values.mean())

    def reports(self, arm: str) -> list[stats.RunReport]:
        """Dips and collapse of every seed."""
        steps, returns = self.returns(arm)
        return stats.collapse_reports(steps, returns, random_return=self.random_return_on(arm))

    def config(self, arm: str) -> PPOConfig:
        """The configuration of an arm's runs."""
        return PPOConfig.from_dict(plain(self._spec(arm).config))

    def _spec(self, arm: str) -> RunSpec:
        return next(spec for spec in self.asked if spec.arm == arm)

    def rows(self, arm: str, metric: str) -> np.ndarray:
        """A metric of every stored run, [num_seeds, num_rows]; NaN where a run has no row."""
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


def held(values: np.ndarray) -> np.ndarray:
    """Every missing entry replaced by the last one before it."""
    rows = np.where(np.isfinite(values), np.arange(values.shape[1]), 0)
    return np.take_along_axis(values, np.maximum.accumulate(rows, axis=1), axis=1)
