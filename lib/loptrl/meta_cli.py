"""`loptrl meta`: train an optimizer on agents, by gradients through their updates."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import tyro

from loptrl.errors import LoptrlError

__all__ = ["MetaCommands"]

Phases = tyro.conf.UseAppendAction[tuple[str, ...]]


@dataclasses.dataclass
class ByGradients:
    """Meta-train by gradients through the agents' updates; stopped, the same command goes on.

    The result is a run in data/results/meta and a weights file with a card in data/weights.
    """

    rule: ClassVar[str]

    recipe: str | None = None
    """One of this project's own (stationary, drift, drift_l2, curriculum, no_pipeline, reduced);
    what else is given goes over it."""
    name: str | None = None
    """Of the weights; the recipe's by default."""
    task: str | None = None
    """The agents' world: ant, humanoid, or a probe."""
    drift: str | None = None
    """What changes in it: none or changing."""
    phase: Annotated[Phases, tyro.conf.arg(metavar="WORLD:DRIFT:SHARE")] = ()
    """A phase of a curriculum, instead of task and drift; repeat for several."""
    agents: int | None = None
    """Agents side by side."""
    num_envs: int | None = None
    """Environments of each agent."""
    reset_interval: str | None = None
    """Meta-iterations of an agent's life; none: it never starts anew."""
    inner_updates: int | None = None
    """PPO iterations that the meta-gradient goes through."""
    meta_lr: float | None = None
    """Step size of the outer Adam."""
    agent_l2: float | None = None
    """Strength of L2 in the agents' loss."""
    meta_l2: float | None = None
    """Strength of L2 on the meta-parameters."""
    env_steps: float | None = None
    """Length in env steps of all agents together."""
    init: str | None = None
    """Weights to start from, such as optim4rl/stationary."""
    through_dynamics: bool | None = None
    """Let the meta-gradient flow through the physics, as the official PPO code does."""
    seed: int = 0
    """Seeds everything."""
    time_limit: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Stop in good order after this long, such as 90s, 30m or 2h."""

    def __call__(self) -> None:
        from loptrl.studies.meta_runs import meta_spec, picture, train

        config, words = self._config()
        name = self.name or self.recipe
        if name is None:
            raise LoptrlError("give the weights a name with --name, or take a --recipe")
        if self.name is None and self._changes():
            raise LoptrlError(
                f"with other numbers than the recipe's the weights need a --name, got {name!r}"
            )
        print(f"A picture is kept at {picture(meta_spec(name, config, self.seed))}")
        done = train(
            name,
            config,
            words,
            seed=self.seed,
            command=self._command(),
            time_limit=self.time_limit,
        )
        skipped = int(done.run.frame["skipped"].iloc[-1])
        print(
            f"{config.rule}/{name}: {len(done.run.frame)} meta-iterations, {skipped} skipped; the "
            f"weights are in {done.path}"
        )

    def _changes(self) -> dict[str, object]:
        """What is given beside the recipe, by field of `MetaConfig`."""
        from loptrl.studies.meta_recipes import drift_of

        given: dict[str, object] = {
            "agents": self.agents,
            "num_envs": self.num_envs,
            "inner_updates": self.inner_updates,
            "meta_learning_rate": self.meta_lr,
            "agent_l2": self.agent_l2,
            "meta_l2": self.meta_l2,
            "env_steps": self.env_steps,
            "through_dynamics": self.through_dynamics,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if self.reset_interval is not None:
            given["reset_interval"] = _interval(self.reset_interval)
        if self.phase and (self.task or self.drift):
            raise LoptrlError("expected either --phase, or --task and --drift, got both")
        if self.phase:
            given["phases"] = [_phase(text) for text in self.phase]
        elif self.task or self.drift:
            given["phases"] = [
                {"world": self.task or "ant", "drift": drift_of(self.drift or "none")}
            ]
        if self.init is not None:
            from loptrl import weights

            given |= {"init": self.init, "init_sha256": weights.digest(self.init, self.rule)}
        return given

    def _config(self) -> tuple[object, str]:
        from loptrl.meta.config import MetaConfig
        from loptrl.studies.meta_recipes import recipe

        base, words = MetaConfig(rule=self.rule), None
        if self.recipe is not None:
            found = recipe(self.rule, self.recipe)
            base, words = found.config, found.trained_on
        changes = self._changes()
        config = MetaConfig.from_dict({**base.to_dict(), **changes})
        if words is None or "phases" in changes:
            words = ", then ".join(
                f"{phase.world}{' (changing)' if phase.drift else ''}" for phase in config.phases
            )
        return config, words

    def _command(self) -> str:
        parts = [f"loptrl meta {self.rule}"]
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), "--" + field.name.replace("_", "-")
            if field.name == "time_limit" or value == field.default or value in (None, ()):
                continue
            if isinstance(value, tuple):
                parts += [f"{flag} {text}" for text in value]
            else:
                parts.append(flag if value is True else f"{flag} {value}")
        return " ".join(parts)


def _interval(text: str) -> int | None:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise LoptrlError(
            f"--reset-interval expects a whole number or none, got {text!r}"
        ) from None


def _phase(text: str) -> dict[str, object]:
    from loptrl.studies.meta_recipes import drift_of

    world, _, rest = text.partition(":")
    drift, _, share = rest.partition(":")
    try:
        part = float(share or 1)
    except ValueError:
        raise LoptrlError(
            f"--phase expects WORLD:DRIFT:SHARE, such as ant:changing:0.5, got {text!r}"
        ) from None
    return {"world": world, "drift": drift_of(drift or "none"), "share": part}


class Optim4RL(ByGradients):
    """Meta-train Optim4RL by gradients through its agents' updates."""

    rule = "optim4rl"


class LinearOptim(ByGradients):
    """Meta-train LinearOptim by gradients through its agents' updates."""

    rule = "linear_optim"


class L2LGD2(ByGradients):
    """Meta-train L2LGD2 by gradients through its agents' updates."""

    rule = "l2lgd2"


@dataclasses.dataclass
class MetaCommands:
    """Train an optimizer: a weights file with a card, usable at once by every study."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Optim4RL, tyro.conf.subcommand("optim4rl")]
        | Annotated[LinearOptim, tyro.conf.subcommand("linear_optim")]
        | Annotated[L2LGD2, tyro.conf.subcommand("l2lgd2")]
    ]

    def __call__(self) -> None:
        self.command()
