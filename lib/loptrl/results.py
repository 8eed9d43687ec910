"""Runs in memory: one run, and the runs of a study side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from loptrl.errors import LoptrlError
from loptrl.specs import RunSpec

__all__ = ["Results", "Run"]


@dataclass(frozen=True)
class Run:
    """One stored run.

    Args:
        spec: what was run.
        frame: ``seed``, ``env_steps`` and one column per metric [rows].
        manifest: how, where and when it was run.
    """

    spec: RunSpec
    frame: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def diverged_at(self) -> int | None:
        """Env steps at which the run diverged, or None."""
        return self.manifest["diverged_at"]


@dataclass
class Results:
    """The runs of a study, in the order they were asked for."""

    runs: list[Run]

    @property
    def arms(self) -> list[str]:
        """The arms' names, in order, each once."""
        return list(dict.fromkeys(run.spec.arm for run in self.runs))

    def of(self, arm: str) -> list[Run]:
        """The runs of one arm, by seed.

        Raises:
            LoptrlError: there is no such arm.
        """
        chosen = [run for run in self.runs if run.spec.arm == arm]
        if not chosen:
            raise LoptrlError(
                f"Expected one of the arms {', '.join(self.arms) or '(none)'}, got {arm!r}; "
                "choose one of them."
            )
        return sorted(chosen, key=lambda run: run.spec.seed)

    def frame(self, arm: str) -> pd.DataFrame:
        """All rows of one arm, seed after seed."""
        return pd.concat([run.frame for run in self.of(arm)], ignore_index=True)

    def curve(self, arm: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """One metric of one arm over training.

        Rows where no seed has a value (a metric that is measured less often) are left out. A
        diverged run has NaN from where it ended; the others must share one grid of env steps.

        Returns:
            env_steps int64 [T], values float64 [S, T], seeds in increasing order.

        Raises:
            LoptrlError: no such arm or metric, or runs of different lengths.
        """
        runs = self.of(arm)
        known = [name for name in runs[0].frame.columns if name not in ("seed", "env_steps")]
        if any(metric not in run.frame.columns for run in runs) or metric not in known:
            raise LoptrlError(
                f"Expected one of the metrics {', '.join(known)}, got {metric!r}; "
                "choose one of them."
            )
        whole = [run for run in runs if run.diverged_at is None]
        reference = max(whole or runs, key=lambda run: len(run.frame))
        steps = reference.frame["env_steps"].to_numpy()
        for run in whole:
            if not np.array_equal(run.frame["env_steps"].to_numpy(), steps):
                raise LoptrlError(
                    f"Expected runs of {arm} with the same env steps, seed {run.spec.seed} differs "
                    f"from seed {reference.spec.seed}; ask for one budget at a time."
                )
        values = np.full((len(runs), len(steps)), np.nan)
        for row, run in zip(values, runs, strict=True):
            own = run.frame["env_steps"].to_numpy()
            at = np.searchsorted(steps, own)
            on_grid = (at < len(steps)) & (steps[np.minimum(at, len(steps) - 1)] == own)
            row[at[on_grid]] = run.frame[metric].to_numpy(np.float64)[on_grid]
        kept = ~np.all(np.isnan(values), axis=0)
        return steps[kept], values[:, kept]

    def manifests(self) -> list[dict[str, Any]]:
        """The manifests, in the order of the runs."""
        return [run.manifest for run in self.runs]
