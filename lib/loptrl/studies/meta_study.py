"""A study whose runs are a few meta-iterations, looked at for their gradients or their cost."""

from __future__ import annotations

import dataclasses
from typing import Any

from loptrl import drive, weights
from loptrl.meta.config import MetaConfig, StatisticsConfig
from loptrl.runs import RunSpec
from loptrl.studies.base import Study

__all__ = ["MetaStudy"]


@dataclasses.dataclass(frozen=True)
class MetaStudy(Study):
    """As `Study`; base, arms and budgets hold fields of `config_type`, and of its one phase.

    These are "world" and "drift". A budget's settings go over an arm's, so that the smoke budget
    makes every arm small.
    """

    config_type = StatisticsConfig

    def config(self, arm: str, budget: str = "laptop", **settings: Any) -> MetaConfig:
        """The configuration of one arm: base, then arm, then budget, then `settings`."""
        chosen, one = self._budget(budget), self.arm(arm)
        length = {"env_steps": one.env_steps.get(budget, chosen.env_steps)}
        merged = {**self.base, **one.settings, **length, **chosen.settings, **settings}
        phase = {name: merged.pop(name) for name in ("world", "drift") if name in merged}
        merged.setdefault("phases", [phase])
        if merged.get("init") is not None:
            merged.setdefault("init_sha256", weights.digest(merged["init"], "optim4rl"))
        return self.config_type.from_dict(merged)

    def weights_of(self, name: str) -> str:
        """Whether the weights that an arm looks at are "here" or "unknown"; "none" needed."""
        init = {**self.base, **self.arm(name).settings}.get("init")
        if init is None:
            return "none"
        return "here" if weights.available(init, "optim4rl") else "unknown"

    def make_program(self, spec: RunSpec) -> drive.Program:
        """The meta-iterations."""
        from loptrl.studies.meta_training import make_meta_program

        return make_meta_program(spec, config_type=self.config_type)
