"""What every study has: arms, budgets, runs to read or compute, and the command that does it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from loptrl import drive, weights
from loptrl.envs.drift import Drift
from loptrl.errors import LoptrlError, MissingRun, WeightsError
from loptrl.ppo.config import OptimizerConfig, PPOConfig
from loptrl.runs import Results, RunSpec, Store
from loptrl.specs import plain

__all__ = ["ALPHA", "Arm", "Budget", "Study"]


ALPHA = 3e-4
"""Optim4RL's learning rate where neither an arm nor the card of its weights names another."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One line of a study's graphs.

    Attributes:
        name: short, for the command line and the store.
        label: in words, for tables.
        look: key of its colour and line in `loptrl.style`.
        settings: what differs from the study's base configuration.
        seeds: seeds at each budget that names it; others take the budget's own number.
        env_steps: length at each budget that names it; others take the budget's own.
    """

    name: str
    label: str
    look: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: Mapping[str, int] = dataclasses.field(default_factory=dict)
    env_steps: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is computed: env steps and seeds of an arm that says nothing else.

    `settings` go over the study's base configuration, such as fewer environments.
    """

    env_steps: int
    seeds: int
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Study:
    """An experiment. `version` is raised by hand when a change of code changes its numbers.

    Its runs are agents' trainings, with the fields of `config_type` as settings.
    """

    config_type: ClassVar[type] = PPOConfig

    name: str
    title: str
    version: int
    base: Mapping[str, Any]
    arms: Mapping[str, Arm]
    budgets: Mapping[str, Budget]

    def specs(
        self,
        budget: str = "laptop",
        arms: Iterable[str] | None = None,
        seeds: int | None = None,
        **settings: Any,
    ) -> list[RunSpec]:
        """The runs of a budget, seed by seed and arm by arm.

        Args:
            budget: "smoke", "laptop" or "paper".
            arms: names; None for all but those whose weights nobody here knows.
            seeds: seeds of every arm; None for the budget's own numbers.
            **settings: fields of `config_type` that replace the arms' own (such as `env_steps`).

        Raises:
            LoptrlError: an unknown budget, arm or setting, or a value out of its range.
            WeightsError: an arm is named whose weights are not known here.
        """
        chosen = self._budget(budget)
        if seeds is not None and (isinstance(seeds, bool) or seeds != int(seeds) or seeds < 1):
            raise LoptrlError(f"seeds must be a whole number of at least 1, got {seeds!r}")
        specs: list[RunSpec] = []
        owners: dict[str, str] = {}
        names = [n for n in self.arms if self.weights_of(n) != "unknown"] if arms is None else arms
        for arm in [self.arm(name) for name in names]:
            config = self.config(arm.name, budget, **settings).to_dict()
            for seed in range(int(seeds or arm.seeds.get(budget, chosen.seeds))):
                spec = RunSpec(self.name, arm.name, budget, self.version, seed, config)
                other = owners.setdefault(spec.key, arm.name)
                if any(spec.key == one.key for one in specs):
                    raise LoptrlError(
                        f"arms {other} and {arm.name} are the same run with these settings; "
                        "name one of them, once"
                    )
                specs.append(spec)
        return sorted(specs, key=lambda spec: spec.seed)

    def config(self, arm: str, budget: str = "laptop", **settings: Any) -> PPOConfig:
        """The configuration of one arm: base, then budget, then arm, then `settings`."""
        chosen, one = self._budget(budget), self.arm(arm)
        length = {"env_steps": one.env_steps.get(budget, chosen.env_steps)}
        merged = {**self.base, **chosen.settings, **length, **one.settings, **settings}
        config = PPOConfig.from_dict(merged)
        rule = config.optimizer
        if rule.weights is not None and rule.sha256 is None:
            found = weights.digest(rule.weights, rule.name)
            rule = dataclasses.replace(rule, sha256=found, learning_rate=_alpha(rule))
            config = dataclasses.replace(config, optimizer=rule)
        Drift.from_dict(config.drift)  # refused here, before anything is made
        return config

    def load_or_run(
        self,
        budget: str = "laptop",
        arms: Iterable[str] | None = None,
        seeds: int | None = None,
        *,
        compute: drive.Compute = "missing",
        store: Store | None = None,
        time_limit: str | float | None = None,
        progress: Any = "auto",
        together: int = 1,
        **settings: Any,
    ) -> Results:
        """Read the stored runs and compute the missing ones (see `loptrl.drive.load_or_run`).

        Unless arms are named, those whose weights are not here are left out where they are not
        stored already.
        """
        arms = None if arms is None else list(arms)
        store = Store() if store is None else store
        specs = self.specs(budget, arms, seeds, **settings)
        from loptrl.studies import NAMES

        command = None
        if self.name in NAMES:  # The command line knows no others.
            command = self.command(budget, arms, seeds, **settings)
            command += f" --together {together}" if together > 1 else ""
        if arms is None and compute != "never":
            absent = {name for name in self.arms if self.weights_of(name) == "absent"}
            specs = [s for s in specs if s.arm not in absent or store.state(s) == "done"]
        return drive.load_or_run(
            specs,
            self.make_program,
            compute=compute,
            store=store,
            time_limit=time_limit,
            progress=progress,
            command=command,
            together=together,
        )

    def make_program(self, spec: RunSpec) -> drive.Program:
        """The program of one of the study's runs."""
        from loptrl.studies.training import make_program

        return make_program(spec)

    def load_stored(
        self,
        budget: str = "laptop",
        arms: Iterable[str] | None = None,
        seeds: int | None = None,
        *,
        store: Store | None = None,
        **settings: Any,
    ) -> Results:
        """The runs that the store has of those asked for; the others are left out, never drawn.

        Raises:
            DamagedRun: a stored run is damaged.
        """
        store = Store() if store is None else store
        found = []
        for spec in self.specs(budget, arms, seeds, **settings):
            with contextlib.suppress(MissingRun):
                found.append(store.read(spec))
        return Results(found)

    def command(
        self,
        budget: str = "laptop",
        arms: Sequence[str] | None = None,
        seeds: int | None = None,
        **settings: Any,
    ) -> str:
        """The shell command for these runs, of a study that the command line knows."""
        parts = [f"loptrl run {self.name} --budget {budget}"]
        parts += [f"--arm {name}" for name in arms or ()]
        parts += [f"--seeds {seeds}"] if seeds is not None else []
        for name, value in settings.items():
            value = value.to_dict() if isinstance(value, OptimizerConfig) else plain(value)
            parts.append(f"-p {shlex.quote(f'{name}={json.dumps(value)}')}")
        return " ".join(parts)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        if name not in self.arms:
            raise LoptrlError(
                f"unknown arm {name!r} of {self.name}: expected one of {', '.join(self.arms)}"
            )
        return self.arms[name]

    def weights_of(self, name: str) -> str:
        """Whether an arm can be run: "none" needed, "here", "absent" (known), or "unknown"."""
        rule = self.arm(name).settings.get("optimizer", {})
        if "weights" not in rule:
            return "none"
        if weights.available(rule["weights"], rule["name"]):
            return "here"
        try:
            weights.digest(rule["weights"], rule["name"])
        except WeightsError:
            return "unknown"
        return "absent"

    def looks(self) -> dict[str, str]:
        """Arm names to keys of `loptrl.style`."""
        return {name: arm.look for name, arm in self.arms.items()}

    def _budget(self, name: str) -> Budget:
        if name not in self.budgets:
            raise LoptrlError(
                f"unknown budget {name!r} of {self.name}: expected one of {', '.join(self.budgets)}"
            )
        return self.budgets[name]


def _alpha(rule: OptimizerConfig) -> float | None:
    """The learning rate that tells a run with weights from others: None for the rule's own.

    One that the weights' card names holds where none is given.
    """
    if rule.learning_rate is not None:
        return rule.learning_rate
    said = (weights.card(rule.weights, rule.name).get("options") or {}).get("learning_rate")
    return None if said == ALPHA else said
