"""From a meta-training's configuration to a program: worlds, agents and rules meet here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from loptrl import devices, weights
from loptrl.errors import LoptrlError
from loptrl.meta.config import MetaConfig
from loptrl.specs import RunSpec, plain

__all__ = ["make_meta_program", "rule_of", "share_devices"]


def rule_of(config: MetaConfig) -> Callable[[Any], Any]:
    """Theta to the transformation that the agents use in meta-training."""
    from loptrl import optimizers

    learned = optimizers.LEARNED[config.rule]
    takes = inspect.signature(learned.build).parameters
    options: dict[str, Any] = {}
    if config.learning_rate is not None:
        if "learning_rate" not in takes:
            raise LoptrlError(
                f"{config.rule} has no learning rate, got {config.learning_rate}; give null"
            )
        options["learning_rate"] = config.learning_rate
    if "num_steps" in takes:
        options["num_steps"] = config.ppo(config.worlds[0]).num_updates

    def rule(theta: Any) -> Any:
        built = learned.build(theta, **options)
        return optimizers.l2_in_loss(built, config.agent_l2) if config.agent_l2 else built

    return rule


def share_devices(agents: int) -> int:
    """How many devices share that many agents evenly."""
    import jax

    return max(d for d in range(1, jax.device_count() + 1) if agents % d == 0)


def make_meta_program(spec: RunSpec, finished: Callable[[Any], None] = lambda theta: None) -> Any:
    """The `MetaProgram` of a run; `finished` is given theta when it is over."""
    devices.prepare()
    from loptrl import optimizers
    from loptrl.envs.drift import Drift
    from loptrl.keys import derive, root_key
    from loptrl.meta.bilevel import Bilevel
    from loptrl.meta.pipeline import Pipeline
    from loptrl.meta.program import MetaProgram
    from loptrl.ppo.learner import Learner
    from loptrl.ppo.structure import Structure
    from loptrl.studies.training import make_world

    config = MetaConfig.from_dict(plain(spec.config))
    learned, rule = optimizers.LEARNED[config.rule], rule_of(config)
    if config.init is None:
        theta = learned.init_theta(derive(root_key(spec.seed), "theta"))
    else:
        found = weights.digest(config.init, config.rule)
        if found != config.init_sha256:
            raise LoptrlError(
                f"expected the weights {config.init} with sha256 {config.init_sha256}, got "
                f"{found}; the training was planned with other weights of that name"
            )
        theta = learned.theta(config.init)
    pipelines, actuators = {}, {}
    for world in config.worlds:
        ppo = config.ppo(world)
        vector = make_world(world, ppo.backend, through=config.through_dynamics)
        learner = Learner(
            Structure.of(ppo), vector, rematerialize=config.rematerialize != "nothing"
        )
        bilevel = Bilevel(
            learner,
            rule,
            config.inner_updates,
            config.meta_rollout_length,
            config.agent_l2,
            config.through_dynamics,
            config.rematerialize == "iterations",
        )
        count = share_devices(config.agents)
        pipelines[world] = Pipeline(bilevel, config.agents, devices=count)
        actuators[world] = vector.world.num_actuators

    def table(env_steps: Any, phase: Any, seed: int) -> Any:
        return Drift.from_dict(phase.drift, seed=seed).table(env_steps, actuators[phase.world])

    return MetaProgram(config, spec.seed, theta, pipelines, table, finished)
