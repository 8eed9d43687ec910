"""The stored runs of study 1 as one object: its curves, its drift and its regime controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from loptrl import stats
from loptrl.errors import LoptrlError
from loptrl.runs import Store
from loptrl.studies.adam_collapse import CONTROL_FRICTIONS, PERIOD, STUDY
from loptrl.studies.changing_ant_evidence import AntEvidence
from loptrl.studies.evidence import Compute, Curve, gather
from loptrl.studies.words import listed

__all__ = ["CONTROLS", "WINDOW", "Compute", "Evidence", "load"]

CONTROLS = {f"control_{friction:g}": friction for friction in CONTROL_FRICTIONS}
"""The arms of the regime controls, each with its friction."""

WINDOW = 400_000
"""Env steps that count as "after a change" of friction: a fifth of a regime, two evaluations."""


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
    settings: dict[str, Any] = {"env_steps": int(env_steps)} if env_steps else {}
    main = [name for name in STUDY.arms if name not in CONTROLS]
    # A control is a yardstick: more seeds of the arms do not ask for more seeds of it.
    own = len(STUDY.specs(budget, list(CONTROLS)[:1]))
    yardsticks = min(seeds, own) if seeds > 0 else None
    asked, runs = gather(
        STUDY,
        [(main, seeds or None), (list(CONTROLS), yardsticks)],
        budget,
        settings,
        compute,
        committed=(budget, env_steps, seeds) == ("laptop", 0, 0),
        store=store,
        progress=progress,
    )
    return Evidence(STUDY, budget, settings, seeds or None, asked, runs)


@dataclass(frozen=True, eq=False)
class Evidence(AntEvidence):
    """Runs of the study with one budget and length; `asked_seeds` does not count the controls."""

    def command(self, *arms: str) -> str:
        """The command that computes these arms, or everything that is asked for."""
        if arms and set(arms) <= set(CONTROLS):
            return STUDY.command(self.budget, list(arms), None, **self.settings)
        return super().command(*arms)

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

    def update_norms(self, arm: str) -> Curve:
        """The largest update norm since the row before; 0 at 0 env steps, before any update.

        A diverged run keeps the largest norm it had: what came then was larger still.
        """
        values = self.rows(arm, "update_norm_max")
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
            return f"the controls at friction {listed(absent)} have no stored run"
        poor = [f"{f:g}" for f, value in self.controls().items() if value <= 0]
        if poor:
            return f"the controls at friction {listed(poor)} end without a return above 0"
        return None

    def changes(self, arm: str = "adam") -> np.ndarray:
        """Env steps at which the friction changed with a whole window left, [num_changes]."""
        last = self.length(arm)
        return np.array([c for c in range(PERIOD, last, PERIOD) if c + WINDOW <= last])
