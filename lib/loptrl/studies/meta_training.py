"""From a meta-training's configuration to a program: worlds, agents and rules meet here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from loptrl import devices, weights
from loptrl.errors import LoptrlError
from loptrl.meta.config import CostConfig, MetaConfig, StatisticsConfig
from loptrl.meta.es_config import EvolutionConfig
from loptrl.meta.supervised_config import SupervisedConfig
from loptrl.specs import RunSpec, plain

__all__ = [
    "make_evolution_program",
    "make_meta_program",
    "make_supervised_program",
    "rule_of",
    "share_devices",
    "untrained_theta",
]


def rule_of(config: MetaConfig | EvolutionConfig, **options: Any) -> Callable[[Any], Any]:
    """Theta to the transformation that the agents use in meta-training; options are `build`'s."""
    from loptrl import optimizers

    learned = optimizers.LEARNED[config.rule]
    takes = inspect.signature(learned.build).parameters
    if config.learning_rate is not None:
        options["learning_rate"] = config.learning_rate
    if "num_steps" in takes:
        options["num_steps"] = config.ppo(config.worlds[0]).num_updates
    agent_l2 = config.agent_l2 if isinstance(config, MetaConfig) else 0.0

    def rule(theta: Any) -> Any:
        built = learned.build(theta, **options)
        return optimizers.l2_in_loss(built, agent_l2) if agent_l2 else built

    return rule


def _first_theta(config: MetaConfig | EvolutionConfig, seed: int, **options: Any) -> Any:
    """The weights to start from: named ones, or untrained ones with those options."""
    from loptrl import optimizers

    if config.init is None:
        return untrained_theta(config.rule, seed, **options)
    found = weights.digest(config.init, config.rule)
    if found != config.init_sha256:
        raise LoptrlError(
            f"expected the weights {config.init} with sha256 {config.init_sha256}, got "
            f"{found}; the training was planned with other weights of that name"
        )
    return optimizers.LEARNED[config.rule].theta(config.init)


def untrained_theta(rule: str, seed: int, **options: Any) -> Any:
    """The random weights that a meta-training with that seed starts from."""
    from loptrl import optimizers
    from loptrl.keys import derive, root_key

    return optimizers.LEARNED[rule].init_theta(derive(root_key(seed), "theta"), **options)


def share_devices(count: int, most: int | None = None) -> int:
    """How many devices, at most `most`, share that many agents evenly."""
    import jax

    limit = min(most or jax.device_count(), jax.device_count())
    return max(d for d in range(1, limit + 1) if count % d == 0)


def make_cost_program(spec: RunSpec) -> Any:
    """The `CostProgram` of a run, on one device."""
    devices.prepare()
    from loptrl.meta.cost import CostProgram

    config = CostConfig.from_dict(plain(spec.config))
    return CostProgram(_meta_program(config, spec.seed, most_devices=1), config.timed)


def make_meta_program(
    spec: RunSpec,
    finished: Callable[[Any, int], None] = lambda theta, slices: None,
    *,
    config_type: type[MetaConfig] = MetaConfig,
    most_devices: int | None = None,
    together: int | None = None,
) -> Any:
    """The `MetaProgram` of a run; `finished`: see there, `together`: see `Pipeline`."""
    devices.prepare()
    config = config_type.from_dict(plain(spec.config))
    return _meta_program(config, spec.seed, finished, most_devices=most_devices, together=together)


def _meta_program(
    config: MetaConfig,
    seed: int,
    finished: Callable[[Any, int], None] = lambda theta, slices: None,
    *,
    most_devices: int | None = None,
    together: int | None = None,
) -> Any:
    from loptrl.envs.drift import Drift
    from loptrl.meta.bilevel import Bilevel
    from loptrl.meta.pipeline import Pipeline
    from loptrl.meta.program import MetaProgram
    from loptrl.ppo.learner import Learner
    from loptrl.ppo.structure import Structure
    from loptrl.studies.training import check_drift, make_world

    worlds = {
        world: make_world(world, config.ppo(world).backend, through=config.through_dynamics)
        for world in config.worlds
    }
    for phase in config.phases:
        check_drift(Drift.from_dict(phase.drift), phase.world, worlds[phase.world].world)
    rule, theta = rule_of(config), _first_theta(config, seed)
    statistics = isinstance(config, StatisticsConfig)
    whole = rule_of(config, stop_inputs=False) if statistics and config.compare_whole else None
    pipelines = {}
    for world, vector in worlds.items():
        structure = Structure.of(config.ppo(world))
        learner = Learner(structure, vector, rematerialize=config.rematerialize != "nothing")
        bilevel = Bilevel(
            learner,
            rule,
            config.inner_updates,
            config.meta_rollout_length,
            config.agent_l2,
            config.through_dynamics,
            config.policy_in_meta_loss,
            config.rematerialize == "iterations",
            statistics,
            whole,
        )
        count = share_devices(config.agents, most_devices)
        pipelines[world] = Pipeline(bilevel, config.agents, devices=count, together=together)

    def table(env_steps: Any, phase: Any, seed: int) -> Any:
        actuators = worlds[phase.world].world.num_actuators
        return Drift.from_dict(phase.drift, seed=seed).table(env_steps, actuators)

    return MetaProgram(config, seed, theta, pipelines, table, finished)


def make_evolution_program(
    spec: RunSpec,
    finished: Callable[[Any, int], None] = lambda theta, slices: None,
    *,
    most_devices: int | None = None,
) -> Any:
    """The `EvolutionProgram` of a run; `finished`: see there."""
    devices.prepare()
    import jax
    import jax.numpy as jnp

    from loptrl.meta.es import Evaluation, EvolutionProgram
    from loptrl.ppo.learner import Learner
    from loptrl.ppo.structure import Structure
    from loptrl.studies.training import make_world

    config = EvolutionConfig.from_dict(plain(spec.config))
    rule = rule_of(config)
    options = {} if config.size is None else {"size": config.size}
    theta = _first_theta(config, spec.seed, **options)
    if config.zero_start:
        theta = jax.tree.map(jnp.zeros_like, theta)
    evaluations = {}
    for world in config.tasks:
        ppo = config.ppo(world)
        learner = Learner(Structure.of(ppo), make_world(world, ppo.backend))
        evaluations[world] = Evaluation(
            learner,
            rule,
            ppo,
            devices=min(most_devices or jax.device_count(), jax.device_count()),
            together=config.members_at_once,
        )
    return EvolutionProgram(config, spec.seed, theta, evaluations, finished)


def make_supervised_program(
    spec: RunSpec,
    finished: Callable[[Any, int], None] = lambda theta, slices: None,
    *,
    most_devices: int | None = None,
) -> Any:
    """The `EvolutionProgram` of a run on supervised tasks; else as `make_evolution_program`."""
    devices.prepare()
    import jax

    from loptrl.meta.es import EvolutionProgram
    from loptrl.meta.supervised import SupervisedEvaluation, examples
    from loptrl.optimizers import velo

    config = SupervisedConfig.from_dict(plain(spec.config))
    sizes = {"lstm_hidden_size": config.lstm_hidden_size, "param_inits": config.param_inits}
    theta = untrained_theta(config.rule, spec.seed, **sizes)
    count = min(most_devices or jax.device_count(), jax.device_count())

    def rule(theta: Any) -> Any:
        return velo.build(theta, num_steps=config.updates)

    evaluations = {
        task: SupervisedEvaluation(examples(task), rule, config, devices=count)
        for task in config.tasks
    }
    return EvolutionProgram(config, spec.seed, theta, evaluations, finished)
