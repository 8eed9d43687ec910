"""From a run's configuration to a program: where worlds, agent and optimizers meet."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loptrl import devices, weights
from loptrl.errors import LoptrlError
from loptrl.ppo.config import OptimizerConfig, PPOConfig
from loptrl.specs import RunSpec, plain

if TYPE_CHECKING:
    from loptrl.envs.drift import Drift
    from loptrl.envs.world import World

__all__ = ["check_drift", "make_program", "make_world", "register_world"]

_REGISTERED: dict[str, Callable[[], Any]] = {}


def make_program(spec: RunSpec) -> Any:
    """The `PPOProgram` of a run. Runs that differ in numbers only share one compiled agent."""
    devices.prepare()
    from loptrl import optimizers
    from loptrl.envs.drift import Drift
    from loptrl.ppo.program import PPOProgram
    from loptrl.ppo.structure import Structure

    config = PPOConfig.from_dict(plain(spec.config))
    rule = config.optimizer.rule
    # Only a learned rule may need its horizon: the others share one agent over all lengths.
    horizon = None if rule.weights is None else config.num_updates
    agent = _agent(Structure.of(config), config.world, config.backend, rule, horizon)
    drift = Drift.from_dict(config.drift, seed=spec.seed)
    check_drift(drift, config.world, agent.world.world)
    return PPOProgram(
        config,
        spec.seed,
        agent,
        lambda env_steps: drift.table(env_steps, agent.world.world.num_actuators),
        lambda state: optimizers.with_hyperparameters(state, config.optimizer.numbers),
    )


@functools.lru_cache(maxsize=4)
def _agent(
    structure: Any, world: str, backend: str, rule: OptimizerConfig, num_updates: int | None
) -> Any:
    from loptrl import optimizers
    from loptrl.ppo.agent import Agent
    from loptrl.ppo.learner import DEVICES
    from loptrl.ppo.structure import count_devices

    parts = count_devices(structure)
    alpha = None
    if rule.weights is not None:
        alpha = rule.learning_rate
        found = weights.digest(rule.weights, family=rule.name)
        if found != rule.sha256:
            raise LoptrlError(
                f"expected the weights {rule.weights} with sha256 {rule.sha256}, got {found}; "
                "the run was planned with other weights of that name"
            )
    optimizer = optimizers.make(
        rule.name,
        weights=rule.weights,
        learning_rate=alpha,
        anneal=rule.anneal,
        num_updates=num_updates,
        split=optimizers.Split(DEVICES, parts) if parts > 1 else None,
    )
    return Agent(
        structure,
        make_world(world, backend),
        optimizer,
        devices=parts,
        split_state=optimizers.split_state if rule.weights is not None else None,
    )


def check_drift(drift: Drift, name: str, world: World) -> None:
    """See to it that every change of a drift has an effect in the world of that name.

    Raises:
        LoptrlError: one has none.
    """
    can = getattr(world, "changes", ())
    without = [change for change in drift.changes if change not in can]
    if without:
        raise LoptrlError(
            f"expected a drift of what can change in {name} ({', '.join(can) or 'nothing'}), got "
            f"{', '.join(without)}; leave it out, or choose another world or backend"
        )


def register_world(name: str, make: Callable[[], Any]) -> None:
    """Let configurations name a world of one's own, in this process.

    Args:
        name: what `PPOConfig.world` says; it is part of a run's key, so another world needs another
            name.
        make: gives the `loptrl.envs.world.World`.

    Raises:
        LoptrlError: the name is taken.
    """
    if name in _known_worlds():
        raise LoptrlError(f"expected a free name for a world, {name!r} is taken; choose another")
    _REGISTERED[name] = make


def _known_worlds() -> tuple[str, ...]:
    from loptrl.envs.bodies import BODIES
    from loptrl.envs.minatar import GAMES
    from loptrl.envs.probes import PROBES

    return (*BODIES, *GAMES, *PROBES, *_REGISTERED)


@functools.lru_cache(maxsize=4)
def make_world(name: str, backend: str, through: bool = False) -> Any:
    """The vector world of that name, laid out for the device at hand.

    Args:
        name: a body, a game, a probe, or one of `register_world`.
        backend: the physics pipeline of a body; other worlds have none, and take only the
            configuration's default, so that no setting is silently without effect.
        through: gradients are to go through a body's physics, which needs Brax's own derivatives
            of functions such as arccos.

    Raises:
        LoptrlError: no such world or backend.
    """
    devices.prepare()
    import jax

    from loptrl.envs.bodies import BODIES, BraxBody
    from loptrl.envs.minatar import GAMES, MinAtar
    from loptrl.envs.probes import PROBES
    from loptrl.envs.world import VectorWorld

    if name in BODIES:
        # What is stepped with the batch last is differentiated primitive by primitive.
        layout = "last" if jax.default_backend() == "cpu" and not through else "first"
        return VectorWorld(BraxBody(name, backend, layout))
    if name not in _known_worlds():
        raise LoptrlError(
            f"unknown world {name!r}: expected one of {', '.join(_known_worlds())}; register_world "
            "adds one"
        )
    if backend != PPOConfig.backend:
        raise LoptrlError(
            f"backend names the physics of a body and {name} has none: expected the default "
            f"{PPOConfig.backend!r}, got {backend!r}; leave the setting out"
        )
    if name in GAMES:
        return VectorWorld(MinAtar(name))
    return VectorWorld(PROBES[name]() if name in PROBES else _REGISTERED[name]())
