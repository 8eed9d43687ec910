"""Stored runs on the Ant, of one study or of several together, with the changes they met."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loptrl.runs import Results, RunSpec, Store
from loptrl.studies.adam_collapse import DRIFT
from loptrl.studies.base import Arm, Study
from loptrl.studies.evidence import Compute, Curve, StudyEvidence, gather, held

__all__ = ["AntEvidence", "Borrowed", "JointEvidence", "load"]

Borrowed = Sequence[tuple[Study, Sequence[str]]]
"""Other studies, and the arms of theirs that stand beside a study's own."""


@dataclass(frozen=True, eq=False)
class AntEvidence(StudyEvidence):
    """Runs on the stationary and on the changing Ant with one budget and length."""

    @functools.cached_property
    def random_return(self) -> float:
        """The untrained policy's return, mean over all stored runs.

        Raises:
            LoptrlError: no run is stored.
        """
        return self.random_return_on(self.asked[0].arm)

    def drifts(self, arm: str) -> bool:
        """Whether an arm's Ant is the changing one."""
        return self.all_arms[arm].settings.get("drift") == DRIFT

    def friction(self, arm: str) -> np.ndarray:
        """The friction in force, [num_seeds, num_rows]; held where a diverged run has ended."""
        return held(self.rows(arm, "dynamics_friction"))

    def strength(self, arm: str) -> np.ndarray:
        """Mean actuator strength, [num_seeds, num_rows]; held where a diverged run has ended."""
        return held(self.rows(arm, "dynamics_actuator_strength"))


@dataclass(frozen=True, eq=False)
class JointEvidence(AntEvidence):
    """A study's runs beside those that it borrows; no two arms have the same name."""

    borrowed: Borrowed

    @property
    def all_arms(self) -> Mapping[str, Arm]:
        """The study's own arms, and those it borrows."""
        others = {name: study.arms[name] for study, names in self.borrowed for name in names}
        return {**self.study.arms, **others}

    def command(self, *arms: str) -> str:
        """The command that computes these arms, or everything that is asked for."""
        wanted = set(arms or self.all_arms)
        parts = []
        for study, names in [(self.study, list(self.study.arms)), *self.borrowed]:
            mine = [name for name in names if name in wanted]
            if mine:
                named = [] if set(study.arms) <= wanted else mine
                parts.append(study.command(self.budget, named, self.asked_seeds, **self.settings))
        return " && ".join(parts)

    def metric(self, arm: str, name: str) -> Curve:
        """A metric as in `StudyEvidence`, or "implied_step", the update per unit of gradient.

        s = mean |u| / mean |g|, over the updates since the row before, with |u| the norm of an
        update of all weights and |g| that of the gradient before PPO clips it. Plain gradient
        descent without clipping has its learning rate here.

        Raises:
            LoptrlError: every run diverged, or none has the metric.
        """
        if name != "implied_step":
            return super().metric(arm, name)
        steps, update = super().metric(arm, "update_norm")
        return steps, update / super().metric(arm, "grad_norm")[1]

    @property
    def incomplete(self) -> bool:
        """Whether any arm lacks runs, its weights being here or not."""
        return bool(self.missing() or self.without_weights())

    def without_weights(self) -> list[str]:
        """Arms of which no run is stored or planned, since nothing says what their weights are."""
        studies = [(self.study, self.study.arms), *self.borrowed]
        return [
            name
            for study, names in studies
            for name in names
            if not self.seeds(name) and study.weights_of(name) == "unknown"
        ]


def load(
    study: Study,
    borrowed: Borrowed,
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    *,
    store: Store | None = None,
    progress: Any = "auto",
) -> JointEvidence:
    """The runs of a study and of what it borrows at a budget, and what of them is missing.

    Args:
        study: whose arms are asked for.
        borrowed: other studies with the same agent, and arms of theirs.
        budget: "smoke", "laptop" or "paper".
        env_steps: length of every run; 0 for the budget's own.
        seeds: seeds of every arm; 0 for the budget's own.
        compute: see `evidence.gather`.
        store: default the committed results.
        progress: see `loptrl.progress.Progress`.

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    settings: dict[str, Any] = {"env_steps": int(env_steps)} if env_steps else {}
    asked: list[RunSpec] = []
    runs: list[Any] = []
    for one, arms in [(study, list(study.arms)), *borrowed]:
        specs, found = gather(
            one,
            [(list(arms), seeds or None)],
            budget,
            settings,
            compute,
            committed=(budget, env_steps, seeds) == ("laptop", 0, 0),
            store=store,
            progress=progress,
        )
        asked += specs
        runs += found.runs
    return JointEvidence(
        study, budget, settings, seeds or None, tuple(asked), Results(runs), borrowed
    )
