"""The stored runs of studies 4 and 5: optimizers on several tasks, and what others published."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from loptrl import stats
from loptrl.errors import LoptrlError
from loptrl.runs import Store
from loptrl.studies.comparison import Comparison
from loptrl.studies.evidence import Compute, Curve, StudyEvidence, gather
from loptrl.studies.open_agent import ADAM_RETURNS
from loptrl.studies.published import published

__all__ = ["ComparisonEvidence", "SourceFinal", "load"]

_RETURN = "last_return"
# How the OPEN authors measure: episodes of training, the policy's actions sampled.
_PUBLISHED_NAMES = {"space_invaders": "spaceinvaders"}
_PUBLISHED_OPTIMIZERS = {"adam": "adam", "rmsprop": "rmsprop", "open_multi": "open_pretrained"}


class SourceFinal(NamedTuple):
    """The mean return over seeds at the end of the source report's runs."""

    mean: float
    num_seeds: int
    env_steps: int


def load(
    comparison: Comparison,
    only: str = "all",
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    *,
    store: Store | None = None,
    progress: Any = "auto",
) -> ComparisonEvidence:
    """The runs of a comparison at a budget, and what of them is missing.

    Args:
        comparison: of which optimizers on which tasks.
        only: one task, or "all".
        budget: "smoke", "laptop" or "paper".
        env_steps: length of every run; 0 for the budget's own.
        seeds: seeds of every arm; 0 for the budget's own.
        compute: see `evidence.gather`.
        store: default the committed results.
        progress: see `loptrl.progress.Progress`.

    Raises:
        LoptrlError: an unknown task or budget, or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    if only != "all" and only not in comparison.tasks:
        raise LoptrlError(f"expected all or one of {', '.join(comparison.tasks)}, got {only!r}")
    study, optimizers = comparison.study, comparison.optimizers
    tasks = {task: words for task, words in comparison.tasks.items() if only in ("all", task)}
    arms = [comparison.arm_name(task, one) for task in tasks for one in optimizers]
    settings: dict[str, Any] = {"env_steps": int(env_steps)} if env_steps else {}
    asked, runs = gather(
        study,
        [(arms, seeds or None)],
        budget,
        settings,
        compute,
        committed=(budget, env_steps, seeds) == ("laptop", 0, 0),
        store=store,
        progress=progress,
    )
    return ComparisonEvidence(
        study,
        budget,
        settings,
        seeds or None,
        asked,
        runs,
        dataclasses.replace(comparison, tasks=tasks),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class ComparisonEvidence(StudyEvidence):
    """Runs of several optimizers on several tasks; `comparison` holds those that were asked for."""

    comparison: Comparison

    @property
    def tasks(self) -> Mapping[str, str]:
        """Worlds, with their names in words."""
        return self.comparison.tasks

    @property
    def optimizers(self) -> Mapping[str, str]:
        """Names in words."""
        return self.comparison.optimizers

    def arms(self, task: str) -> dict[str, str]:
        """Optimizer -> arm, of those with a stored run on a task."""
        arms = {one: self.comparison.arm_name(task, one) for one in self.optimizers}
        return {one: arm for one, arm in arms.items() if self.seeds(arm)}

    def training_returns(self, arm: str) -> Curve:
        """Returns of training episodes, actions sampled: env steps [rows], [num_seeds, rows].

        Each is the mean over environments of the last episode that ended, as the OPEN authors
        measure. After a divergence a run counts as the random policy.
        """
        values = self.rows(arm, _RETURN)[:, 1:]  # the first row precedes every episode
        return self.grid(arm)[1:], stats.fill_diverged(values, self.random_return_on(arm))

    @functools.cached_property
    def scores(self) -> dict[str, dict[str, np.ndarray]]:
        """Optimizer -> task -> final training returns [num_seeds]; only what is stored."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for task in self.tasks:
            for optimizer, arm in self.arms(task).items():
                final = stats.final(*self.training_returns(arm))
                found.setdefault(optimizer, {})[task] = final
        return found

    @property
    def started(self) -> Mapping[str, str]:
        """The `tasks` on which a run of any optimizer is stored."""
        return {task: words for task, words in self.tasks.items() if self.arms(task)}

    @property
    def comparable(self) -> Mapping[str, str]:
        """The `tasks` on which Adam has runs, all above 0: their mean is a unit for the others."""
        least = {task: np.min(own) for task, own in self.scores.get("adam", {}).items()}
        return {task: words for task, words in self.tasks.items() if least.get(task, 0.0) > 0.0}

    def complete(self) -> dict[str, dict[str, np.ndarray]]:
        """`scores` of the optimizers that have runs on every task."""
        return {name: own for name, own in self.scores.items() if len(own) == len(self.tasks)}

    def normalised(self, tasks: Collection[str] | None = None) -> dict[str, dict[str, np.ndarray]]:
        """Optimizer -> task -> scores over Adam's mean there, [num_seeds]; maybe none.

        Of the optimizers with runs on all of these.

        Args:
            tasks: which of the `comparable` ones; all by default.
        """
        tasks = self.comparable if tasks is None else tasks
        scores = {
            name: {task: own[task] for task in tasks}
            for name, own in self.scores.items()
            if set(tasks) <= set(own)
        }
        if "adam" not in scores or not tasks:
            return {}
        level = {task: np.mean(own) for task, own in scores["adam"].items()}
        return {
            name: {task: values / level[task] for task, values in own.items()}
            for name, own in scores.items()
        }

    def without_weights(self) -> list[str]:
        """Optimizers of which no run is stored or planned, since nothing says what they are.

        Weights that are known and not here make runs missing: a page is the same without them.
        """
        return [
            optimizer
            for optimizer in self.optimizers
            if optimizer not in self.scores
            and any(
                self.study.weights_of(self.comparison.arm_name(task, optimizer)) == "unknown"
                for task in self.tasks
            )
        ]

    def published_normaliser(self, task: str) -> float | None:
        """Adam's return that the OPEN authors normalise by, or None where they give none."""
        return ADAM_RETURNS.get(task)

    def official_run(self, task: str, optimizer: str) -> float | None:
        """The return of one run of an optimizer's official code, or None where none is known.

        None too where it was not as long as the runs here within 2 %.
        """
        rows = _of_task(published("official_runs.csv"), task)
        rows = rows[rows["optimizer"] == optimizer]
        if rows.empty or not self.as_long(rows["env_steps"].iloc[0], task, optimizer):
            return None
        return float(rows["return"].iloc[0])

    def as_long(self, env_steps: float, task: str, optimizer: str) -> bool:
        """Whether the runs here have that length, within 2 %."""
        arm = self.comparison.arm_name(task, optimizer)
        return abs(env_steps / self.length(arm) - 1) <= 0.02

    def over_adam(self, optimizer: str, tasks: Sequence[str]) -> stats.Estimate:
        """An optimizer's score over Adam's mean, tasks and seeds pooled, both drawn again."""
        own, adam = ({t: self.scores[name][t] for t in tasks} for name in (optimizer, "adam"))
        return stats.normalised_ci(own, adam, rng=np.random.default_rng(0))

    def source_final(self, task: str, optimizer: str) -> SourceFinal | None:
        """The end of the source report's runs, or None where it has none."""
        rows = _source_rows(task, optimizer)
        if rows.empty:
            return None
        last = rows.iloc[-1]
        return SourceFinal(
            float(last["mean_return"]), int(last["num_seeds"]), int(last["env_steps"])
        )

    def source_curve(self, task: str, optimizer: str) -> Curve | None:
        """The source report's mean return over its seeds: env steps, values; None without one."""
        rows = _source_rows(task, optimizer)
        if rows.empty:
            return None
        return rows["env_steps"].to_numpy(), rows["mean_return"].to_numpy()


def _source_rows(task: str, optimizer: str) -> pd.DataFrame:
    """The source report's mean over seeds, a row each env step that it logged; maybe none."""
    rows = _of_task(published("source_report_curves.csv"), task)
    return rows[rows["optimizer"] == _PUBLISHED_OPTIMIZERS.get(optimizer)]


def _of_task(table: pd.DataFrame, task: str) -> pd.DataFrame:
    return table[table["environment"] == _PUBLISHED_NAMES.get(task, task)]
