"""The stored runs of study 8, as numbers: agreement by setting, and gradients by age."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loptrl.meta.config import EDGES
from loptrl.runs import Store
from loptrl.studies.evidence import Compute, Curve, StudyEvidence, gather
from loptrl.studies.gradient_statistics import LIFE, STUDY, arm_name

__all__ = ["GradientEvidence", "distances_to_iid", "load", "pipeline_pools"]

PIPELINE = 8
"""Agents of staggered ages, as in the meta-trainings."""


@dataclass(frozen=True, eq=False)
class GradientEvidence(StudyEvidence):
    """Runs of study 8 with one budget."""

    def metric(self, arm: str, name: str) -> Curve:
        """A metric of the arm's runs: env steps of all agents [num_rows], [num_seeds, num_rows].

        Two more names: "noise", the variance between agents over the mean squared norm of an
        agent's meta-gradient, 0 where all are alike and about 1 where they are unrelated; and
        "whole_angle", between the meta-gradient and the whole one, in degrees.
        """
        if name == "whole_angle":
            steps, cosines = self.whole(arm).curve(arm, "whole_cosine")
            return steps, np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
        if name == "noise":
            steps, variance = self.whole(arm).curve(arm, "meta_grad_variance")
            mean = self.whole(arm).curve(arm, "meta_grad_norm")[1]
            agents = self.whole(arm).of(arm)[0].spec.config["agents"]
            return steps, variance / (mean**2 + variance * (agents - 1) / agents)
        return self.whole(arm).curve(arm, name)

    def per_seed(
        self,
        arm: str,
        name: str,
        *,
        shared: bool = True,
        window: tuple[float, float] = (0.0, 1.0),
    ) -> np.ndarray:
        """Mean of a metric over the meta-iterations that arms of one size share, [num_seeds].

        Those are the ones that begin within the planned length of the shortest such arm, stored or
        not, or within a window of it, given as shares; with `shared` off the mean is over all
        meta-iterations. Where a meta-gradient was not
        finite, neither is the metric, and the meta-iteration is left out; a seed without any other
        is left out, too. An arm without whole runs gives none.
        """
        if not self.whole(arm).runs:
            return np.empty(0)
        steps, values = self.metric(arm, name)
        if shared:
            one = int(self.whole(arm).of(arm)[0].frame["env_steps"].iloc[0])
            length, begun = self.shared_length(arm), steps - one
            first, last = (share * length for share in window)
            values = values[:, (begun >= first) & (begun < last)]
        finite = [row[np.isfinite(row)] for row in values]
        return np.array([row.mean() for row in finite if row.size])

    def shared_length(self, arm: str) -> int:
        """Env steps of all agents up to which arms of this one's size are compared."""
        size = arm.partition(".")[0]
        return min(
            self.planned_length(other) for other in self.all_arms if other.startswith(f"{size}.")
        )

    def histograms(self, arm: str) -> tuple[np.ndarray, np.ndarray]:
        """Env steps of one agent [num_rows]; shares [num_seeds, num_rows, num_bins].

        Raises:
            LoptrlError: no whole run of the arm is stored.
        """
        runs = self.whole(arm).of(arm)
        names = [f"agent_gradient_{i:02d}" for i in range(len(EDGES) + 1)]
        agents = runs[0].spec.config["agents"]
        steps = runs[0].frame["env_steps"].to_numpy() / agents
        return steps, np.stack([run.frame[names].to_numpy(np.float64) for run in runs])

    @functools.cached_property
    def incomplete(self) -> bool:
        """Whether any arm lacks runs."""
        return bool(self.missing())

    def distances(self, world: str) -> tuple[np.ndarray, np.ndarray]:
        """Distance to IID with and without pipeline training, each [num_seeds], in decades."""
        arm = arm_name("full", "data", world, 4)
        if not self.whole(arm).runs:
            return np.empty(0), np.empty(0)
        _, shares = self.histograms(arm)
        return distances_to_iid(shares[:, :LIFE])


def distances_to_iid(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each meta-iteration's gradients are from all of them, with and without a pipeline.

    W_1 between what is seen at one time and what is seen at all times, mean over the time of one
    life; agents of one age see row t at time t, staggered ones the mean over ages
    (t + i T / n) mod T, i < n, as when a pipeline has filled.

    Args:
        shares: [num_seeds, num_ages, num_bins], histograms of one agent's gradient by age.

    Returns:
        With a pipeline, and without, each [num_seeds], in decades.
    """
    return _distance(pipeline_pools(shares)), _distance(shares)


def pipeline_pools(shares: np.ndarray) -> np.ndarray:
    """What agents of staggered ages see at each time, like the histograms by age it is made of."""
    ages = shares.shape[1]
    offsets = np.arange(PIPELINE) * ages // PIPELINE
    at = (np.arange(ages)[:, None] + offsets) % ages
    return shares[:, at].mean(axis=2)


def _distance(pools: np.ndarray) -> np.ndarray:
    cumulative = np.cumsum(pools, axis=2)[:, :, :-1]
    apart = np.abs(cumulative - cumulative.mean(axis=1, keepdims=True))
    return apart.sum(axis=2).mean(axis=1) * (EDGES[1] - EDGES[0])


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    *,
    arms: Sequence[str] | None = None,
    store: Store | None = None,
    progress: Any = "auto",
) -> GradientEvidence:
    """The runs of study 8 at a budget, and what of them is missing.

    Args:
        budget: "smoke" or "laptop".
        env_steps: length of every run, of all agents together; 0 for the arms' own.
        seeds: seeds of every arm; 0 for the budget's own.
        compute: see `evidence.gather`.
        arms: the arms that may be computed; None for all.
        store: default the committed results.
        progress: see `loptrl.progress.Progress`.

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: the computation was stopped; the same call goes on.
    """
    settings: dict[str, Any] = {"env_steps": int(env_steps)} if env_steps else {}
    asked, found = gather(
        STUDY,
        [(list(STUDY.arms if arms is None else arms), seeds or None)],
        budget,
        settings,
        compute,
        committed=(budget, env_steps, seeds) == ("laptop", 0, 0),
        store=store,
        progress=progress,
    )
    return GradientEvidence(STUDY, budget, settings, seeds or None, asked, found)
