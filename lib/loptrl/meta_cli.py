"""`loptrl meta`: train an optimizer on agents, by gradients or by evolution."""

from __future__ import annotations

import dataclasses
import json
import shlex
from typing import Annotated, Any, ClassVar

import tyro

from loptrl.errors import LoptrlError
from loptrl.specs import plain

__all__ = ["MetaCommands"]

Texts = tyro.conf.UseAppendAction[tuple[str, ...]]
Word = Annotated[str | None, tyro.conf.arg(metavar="NAME")]
Count = Annotated[int | None, tyro.conf.arg(metavar="N")]
Number = Annotated[float | None, tyro.conf.arg(metavar="X")]


class _Training:
    """What both kinds of meta-training do with their arguments."""

    rule: ClassVar[str]

    def __call__(self) -> None:
        from loptrl.studies.meta_recipes import LICENCE
        from loptrl.studies.meta_runs import meta_spec, picture, train

        config, words, changed = self._config()
        if self.name is None and self.recipe is not None and changed:
            raise LoptrlError(
                f"with other numbers than the recipe's the weights need a --name, got "
                f"{self.recipe!r}"
            )
        name = self.name or self.recipe or self._default_name()
        print(f"A picture is kept at {picture(meta_spec(name, config, self.seed))}")
        done = train(
            name,
            config,
            words,
            seed=self.seed,
            command=self._command(),
            licence=LICENCE if self.recipe is not None and not changed else None,
            time_limit=self.time_limit,
            agents_at_once=getattr(self, "agents_at_once", None),
        )
        told = self._told(done.run.frame)
        print(f"{config.rule}/{name}: {told}; the weights are in {done.path}")

    def _config(self) -> tuple[Any, str, bool]:
        """The numbers, what is trained on in words, and whether they differ from a recipe's."""
        from loptrl.studies.meta_recipes import recipe

        if self.recipe is None:
            base, words = self._plain(), None
        else:
            found = recipe(self.rule, self.recipe)
            base, words = found.config, found.trained_on
        changes = self._changes(base)
        config = type(base).from_dict({**base.to_dict(), **changes})
        if words is None or {"phases", "tasks"} & set(changes):
            words = self._words(config)
        elif changes:
            told = (f"{name}={json.dumps(plain(value))}" for name, value in changes.items())
            words = f"{words}, but with {', '.join(told)}"
        return config, words, bool(changes)

    def _given(self, *names: str) -> dict[str, object]:
        """The outer step size and these arguments, those that are given, by field."""
        given = {
            "meta_learning_rate": self.meta_lr,
            **{name: getattr(self, name) for name in names},
        }
        return {name: value for name, value in given.items() if value is not None}

    def _initial(self) -> dict[str, object]:
        """The weights to start from, as fields of a configuration."""
        if self.init is None:
            return {}
        from loptrl import weights

        return {"init": self.init, "init_sha256": weights.digest(self.init, self.rule)}

    def _command(self) -> str:
        parts = [f"loptrl meta {self.rule}"]
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), "--" + field.name.replace("_", "-")
            if field.name == "time_limit" or value == field.default or value in (None, ()):
                continue
            if isinstance(value, tuple):
                parts += [f"{flag} {shlex.quote(text)}" for text in value]
            else:
                parts.append(f"{flag} {shlex.quote(str(value))}")
        return " ".join(parts)


@dataclasses.dataclass
class ByGradients(_Training):
    """Meta-train by gradients through the agents' updates; stopped, the same command goes on.

    The result is a run in data/results/meta and a weights file with a card in data/weights.
    """

    recipe: Word = None
    """One of this project's own, all of them for optim4rl (stationary, drift, drift_long, drift_l2,
    curriculum, no_pipeline, reduced, drift_raw, drift_raw_1e-3, small_data, small_physics,
    small_critic, and study 6's grid of meta learning rates 1e-5, 1e-4, 1e-3 and reset intervals 32,
    128, 512, such as grid_1e-5_32; its middle is stationary); what else is given goes over it."""
    name: Word = None
    """Of the weights; by default the recipe's, or task and drift, such as ant_changing."""
    task: Word = None
    """The agents' world: ant, humanoid, or a probe."""
    drift: Word = None
    """What changes in it: none, friction, wear (of the motors), or changing, which is both."""
    phase: Annotated[Texts, tyro.conf.arg(metavar="WORLD:DRIFT:SHARE")] = ()
    """A phase of a curriculum, instead of task and drift; repeat for several."""
    agents: Count = None
    """Agents side by side."""
    num_envs: Count = None
    """Environments of each agent."""
    reset_interval: Word = None
    """Meta-iterations of an agent's life; none: it never starts anew."""
    inner_updates: Count = None
    """PPO iterations that the meta-gradient goes through."""
    meta_lr: Number = None
    """Step size of the outer Adam."""
    meta_grad_norm: Word = None
    """Bound on the meta-gradient's norm, or none."""
    meta_grad_clip: Word = None
    """Bound on each entry of the meta-gradient, or none."""
    agent_l2: Number = None
    """Strength of L2 in the agents' loss."""
    meta_l2: Number = None
    """Strength of L2 on the meta-parameters."""
    env_steps: Number = None
    """Length in env steps of all agents together."""
    init: Word = None
    """Weights to start from, such as optim4rl/stationary."""
    agents_at_once: Count = None
    """Agents stepped together on a device; the others wait and take little memory. By default
    one on a CPU, elsewhere as many as its memory holds."""
    through_dynamics: bool | None = None
    """Let the meta-gradient flow through the physics, as the official PPO code does."""
    policy_in_meta_loss: bool | None = None
    """Without it the critic's error and the entropy alone move the rule, as through the physics."""
    seed: int = 0
    """Seeds everything."""
    time_limit: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Stop in good order after this long, such as 90s, 30m or 2h."""

    def _plain(self) -> Any:
        from loptrl.meta.config import MetaConfig

        if not (self.name or self.task or self.drift or self.phase):
            raise LoptrlError("name the world with --task, or take a --recipe")
        return MetaConfig(rule=self.rule)

    def _default_name(self) -> str:
        phases = [text.split(":")[:2] for text in self.phase]
        phases = phases or [[self.task or "ant", self.drift or "none"]]
        return "_then_".join(f"{world}_{''.join(drift) or 'none'}" for world, *drift in phases)

    def _words(self, config: Any) -> str:
        from loptrl.studies.meta_recipes import phase_words

        return ", then ".join(map(phase_words, config.phases))

    def _told(self, frame: Any) -> str:
        return f"{len(frame)} meta-iterations, {int(frame['skipped'].iloc[-1])} skipped"

    def _changes(self, base: Any) -> dict[str, object]:
        """What is given beside the recipe, by field of `MetaConfig`."""
        del base
        from loptrl.studies.meta_recipes import drift_of

        names = ("agents", "num_envs", "inner_updates", "agent_l2", "meta_l2", "env_steps")
        given = self._given(*names, "through_dynamics", "policy_in_meta_loss")
        for name, kind in (
            ("reset_interval", int),
            ("meta_grad_norm", float),
            ("meta_grad_clip", float),
        ):
            text = getattr(self, name)
            if text is not None:
                given[name] = _number_or_none(name, text, kind)
        if self.phase and (self.task or self.drift):
            raise LoptrlError("expected either --phase, or --task and --drift, got both")
        if self.phase:
            given["phases"] = [_phase(text) for text in self.phase]
        elif self.task or self.drift:
            given["phases"] = [
                {"world": self.task or "ant", "drift": drift_of(self.drift or "none")}
            ]
        return given | self._initial()


def _number_or_none(name: str, text: str, kind: type[int] | type[float]) -> int | float | None:
    if text == "none":
        return None
    try:
        return kind(text)
    except ValueError:
        flag, what = name.replace("_", "-"), "a whole number" if kind is int else "a number"
        raise LoptrlError(f"--{flag} expects {what} or none, got {text!r}") from None


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


@dataclasses.dataclass
class _Search(_Training):
    """The arguments of every search by evolution."""

    recipe: Word = None
    """One of this project's own; what else is given goes over it."""
    name: Word = None
    """Of the weights; by default the recipe's, or the tasks, such as breakout_asterix."""
    population: Count = None
    """Members of a generation, an even number."""
    generations: Count = None
    """How many."""
    sigma: Number = None
    """Deviation of the members' weights."""
    sigma_decay: Number = None
    """Its factor from one generation to the next."""
    meta_lr: Number = None
    """Step size of the outer Adam."""
    lr_decay: Number = None
    """Its factor from one generation to the next."""
    rollouts: Count = None
    """Trainings of a member on each task."""
    members_at_once: Count = None
    """Members trained together on a device; the others wait."""
    seed: int = 0
    """Seeds everything."""
    time_limit: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Stop in good order after this long, such as 90s, 30m or 2h."""

    def _changes(self, base: Any) -> dict[str, object]:
        """What is given beside the recipe, by field of the configuration."""
        del base
        names = ("population", "generations", "sigma", "sigma_decay", "lr_decay", "rollouts")
        return self._given(*names, "members_at_once")

    def _told(self, frame: Any) -> str:
        failed = int(frame["failed_members"].sum())
        return f"{len(frame)} generations, {failed} members failed"


@dataclasses.dataclass
class ByEvolution(_Search):
    """Meta-train by evolution over whole trainings of agents; stopped, the same command goes on.

    The result is a run in data/results/meta and a weights file with a card in data/weights.
    """

    recipe: Word = None
    """One of this project's own (evolved_breakout, its first generations evolved_breakout_early,
    evolved_breakout_slow, evolved_breakout_asterix); what else is given goes over it."""
    tasks: Word = None
    """The agents' worlds, such as breakout,asterix."""
    normalisers: Word = None
    """What the return on each is divided by, such as 5.6,0.83; by default, for several worlds,
    Adam's after the published, full training."""
    env_steps: Number = None
    """Length of each agent's training in env steps."""
    size: Word = None
    """Of the rule: small or large."""
    init: Word = None
    """Weights to start from, such as open/breakout; zeros by default."""
    agent: Annotated[Texts, tyro.conf.arg(metavar="NAME=VALUE")] = ()
    """A setting of the agents, such as hidden=[16,16]; repeat for several."""

    def _plain(self) -> Any:
        from loptrl.meta.es_config import EvolutionConfig
        from loptrl.studies.meta_recipes import evolution_agent

        if self.tasks is None:
            raise LoptrlError("name the worlds with --tasks, or take a --recipe")
        tasks = self._tasks()
        return EvolutionConfig(rule=self.rule, agent=evolution_agent(tasks["tasks"]), **tasks)

    def _default_name(self) -> str:
        return "_".join(self._tasks()["tasks"])

    def _tasks(self) -> dict[str, Any]:
        from loptrl.studies.meta_recipes import normalisers

        names = [name.strip() for name in str(self.tasks).split(",")]
        given = self.normalisers is not None
        return {"tasks": names, "normalisers": None if given else normalisers(names)}

    def _changes(self, base: Any) -> dict[str, object]:
        given = super()._changes(base)
        own = {"env_steps": self.env_steps, "size": self.size}
        given |= {name: value for name, value in own.items() if value is not None}
        if self.tasks is not None:
            given |= self._tasks()
        if self.normalisers is not None:
            given["normalisers"] = _numbers(self.normalisers)
        if self.agent:
            given["agent"] = {**base.agent, **dict(_setting(text) for text in self.agent)}
        if self.init is not None:
            given |= {**self._initial(), "zero_start": False}
        return given

    def _words(self, config: Any) -> str:
        return f"{' and '.join(config.tasks)}, by evolution"


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise LoptrlError(f"--normalisers expects numbers such as 5.6,0.83, got {text!r}") from None


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise LoptrlError(f"--agent expects NAME=VALUE, such as hidden=[16,16], got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


class Open(ByEvolution):
    """Meta-train OPEN by evolution over whole trainings of agents."""

    rule = "open"


@dataclasses.dataclass
class Velo(_Search):
    """Meta-train VeLO at a reduced size on scikit-learn's tasks, a stand-in for its weights.

    Stopped, the same command goes on. The result is a run in data/results/meta and a weights file
    with a card in data/weights.
    """

    rule = "velo"

    recipe: Word = None
    """This project's own is standin; what else is given goes over it."""

    def _plain(self) -> Any:
        raise LoptrlError("take a --recipe, such as standin")


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
        | Annotated[Open, tyro.conf.subcommand("open")]
        | Annotated[Velo, tyro.conf.subcommand("velo")]
    ]

    def __call__(self) -> None:
        self.command()
