"""What `loptrl bench` measures, each in a process of its own: env steps per second and memory."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from loptrl import devices, provenance
from loptrl.bench_ratios import (
    BRAX,
    BRAX_ALL,
    EVOLUTION,
    EVOLUTION_ALL,
    FLOOR,
    META,
    META_SMALL,
    OURS,
)
from loptrl.errors import LoptrlError
from loptrl.ppo.config import OptimizerConfig, PPOConfig
from loptrl.specs import RunSpec, plain

__all__ = [
    "NAMED",
    "floor_spec_of",
    "measure_arm",
    "measure_brax",
    "measure_evolution",
    "measure_floor",
    "measure_meta",
    "spec_of",
]

_ITERATIONS = 4
"""PPO iterations between two looks at the clock; a study's slices can last a minute."""

_SHORT_TRAINING = 32_768
"""Env steps of a member's training in such a measurement: four PPO iterations."""


def measure_arm(name: str, seconds: float) -> dict[str, float]:
    """Env steps per second of an arm's agent, evaluations left out, after compilation.

    Args:
        name: STUDY/ARM, at the laptop budget's sizes.
        seconds: about how long to measure; at least two slices are timed.

    Returns:
        `env_steps_per_s`, `peak_memory_gib` (of the whole process), `devices`.

    Raises:
        LoptrlError: there is no such study or arm, or its weights are not here.
    """
    spec = spec_of(name)
    count = devices.prepare()
    return _measured(_trained(spec, seconds)[0], count)


def measure_floor(name: str, seconds: float) -> dict[str, float]:
    """Env steps per second of an arm if its rule took no longer than its arithmetic.

    1 / (1 / r + u t), with r the rate of the same agent with Adam, u the updates per env step and
    t the seconds of one update's arithmetic (`bench_floor.update_seconds`), all measured here.

    Args:
        name: FLOOR and STUDY/ARM, an arm with a learned rule.
        seconds: about how long to measure r.

    Raises:
        LoptrlError: there is no such arm, its weights are not here, or its rule is hand-designed.
    """
    spec = floor_spec_of(name)
    config = PPOConfig.from_dict(plain(spec.config))
    count = devices.prepare()
    import jax

    from loptrl import bench_floor

    adam = dataclasses.replace(config, optimizer=OptimizerConfig())
    rate, state = _trained(dataclasses.replace(spec, config=adam.to_dict()), seconds)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    arithmetic = bench_floor.update_seconds(config, parameters)
    updates = config.epochs * config.minibatches / config.batch_size
    return _measured(1.0 / (1.0 / rate + updates * arithmetic), count)


def _trained(spec: Any, seconds: float) -> tuple[float, Any]:
    """Env steps per second of a run's agent, and its state in the end."""
    import jax

    from loptrl.studies.training import make_program

    config = PPOConfig.from_dict(plain(spec.config))
    short = dataclasses.replace(config, eval_every=_ITERATIONS * config.batch_size)
    program = make_program(dataclasses.replace(spec, config=short.to_dict()))

    def step(state: Any) -> Any:
        return jax.block_until_ready(program.train(state)[0])

    # The second turn compiles too: its state lies on the devices as the first one left it.
    return _rate(step, step(step(program.init())), program, seconds)


def _advanced(program: Any, seconds: float) -> float:
    """Env steps per second of a meta-training's program."""

    def step(state: Any) -> Any:
        return program.advance(state)[0]

    # As in `_trained`, the second turn may compile too.
    return _rate(step, step(step(program.init())), program, seconds)[0]


def _rate(
    step: Callable[[Any], Any], state: Any, program: Any, seconds: float
) -> tuple[float, Any]:
    """Env steps per second of at least two slices, and the state after them."""
    done, started = 0, time.perf_counter()
    while done < 2 or time.perf_counter() - started < seconds:
        state = step(state)
        done += 1
    return done * program.env_steps_per_slice / (time.perf_counter() - started), state


def _measured(rate: float, count: int) -> dict[str, float]:
    return {
        "env_steps_per_s": rate,
        "peak_memory_gib": provenance.peak_memory_bytes() / 2**30,
        "devices": count,
    }


def spec_of(name: str) -> RunSpec:
    """The first seed of an arm, named as STUDY/ARM, at the laptop budget.

    Raises:
        LoptrlError: there is no such study or arm, or its weights are not here.
    """
    from loptrl import studies

    study, slash, arm = name.partition("/")
    if not slash:
        raise LoptrlError(
            f"expected an arm as STUDY/ARM, such as {OURS}, got {name!r}; `loptrl status` lists "
            "studies and arms"
        )
    (spec,) = studies.get(study).specs("laptop", [arm], seeds=1)
    return spec


def floor_spec_of(name: str) -> RunSpec:
    """The same for FLOOR and STUDY/ARM.

    Raises:
        LoptrlError: there is no such arm, its weights are not here, or its rule is hand-designed.
    """
    spec = spec_of(name.removeprefix(FLOOR))
    rule = spec.config["optimizer"]
    if rule.get("weights") is None:
        raise LoptrlError(
            f"expected {FLOOR} with an arm of a learned rule, got {name}, whose rule is "
            f"{rule['name']}; its own rate is what a floor would be"
        )
    return spec


def measure_brax(seconds: float, host_devices: int | None = None) -> dict[str, float]:
    """The same for `brax.training.agents.ppo`: its own loop, the same task, networks and batches.

    Its own timer is read (evaluations and compilation left out). `jax.device_put_replicated`,
    which it calls and jax no longer has, is put back for this measurement only.

    Args:
        seconds: about how long to measure.
        host_devices: devices to make of a CPU; None for one per core.
    """
    count = devices.prepare(host_devices)
    import jax

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from brax import envs
        from brax.training.agents.ppo import networks, train

    if not hasattr(jax, "device_put_replicated"):
        jax.device_put_replicated = _device_put_replicated
    from loptrl.studies.adam_collapse import STUDY

    config = STUDY.config("stationary")
    epochs: list[float] = []

    def note(_: int, metrics: dict[str, Any]) -> None:
        epochs.append(float(metrics["training/sps"]))

    # The first epoch compiles. About 6,000 env steps/s on two cores make it last that long.
    iterations, evals = max(2, round(seconds * 6_000 / config.batch_size / 2)), 3
    train.train(
        environment=envs.get_environment(config.world, backend=config.backend),
        num_timesteps=config.batch_size * iterations * evals,
        episode_length=1000,
        num_envs=config.num_envs,
        unroll_length=config.rollout_length,
        batch_size=config.num_envs // config.minibatches,
        num_minibatches=config.minibatches,
        num_updates_per_batch=config.epochs,
        learning_rate=config.optimizer.learning_rate,
        discounting=config.discount,
        entropy_cost=config.entropy_coef,
        clipping_epsilon=config.clip_ratio,
        max_grad_norm=config.max_grad_norm,
        normalize_observations=True,
        network_factory=lambda *args, **kwargs: networks.make_ppo_networks(
            *args,
            **kwargs,
            policy_hidden_layer_sizes=config.hidden,
            value_hidden_layer_sizes=config.hidden,
        ),
        num_evals=evals,
        run_evals=False,
        progress_fn=note,
    )
    timed = epochs[1:] or epochs
    return _measured(len(timed) / sum(1.0 / rate for rate in timed), count)


def _device_put_replicated(tree: Any, to: list[Any]) -> Any:
    import jax
    import jax.numpy as jnp

    mesh = jax.sharding.Mesh(to, "d")
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    return jax.tree.map(lambda x: jax.device_put(jnp.stack([x] * len(to)), sharding), tree)


def measure_evolution(seconds: float, host_devices: int | None = None) -> dict[str, float]:
    """The same for generations of the recipe `open/evolved_breakout`, with shorter trainings.

    Args:
        seconds: about how long to measure; at least two generations are timed.
        host_devices: devices to make of a CPU, of a core each, over which members are shared out;
            None for one per core.
    """
    if host_devices is not None:
        # Otherwise XLA's threads would lend few devices the other cores.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:host_devices])
    count = devices.prepare(host_devices)
    from loptrl.studies import meta_recipes, meta_runs
    from loptrl.studies.meta_training import make_evolution_program

    config = meta_recipes.recipe("open", "evolved_breakout").config
    config = dataclasses.replace(config, env_steps=_SHORT_TRAINING)
    program = make_evolution_program(meta_runs.meta_spec("evolved_breakout", config))
    return _measured(_advanced(program, seconds), count)


def measure_meta(seconds: float, environments: int | None = None) -> dict[str, float]:
    """The same for meta-iterations of the recipe `optim4rl/stationary`.

    Args:
        seconds: about how long to measure; at least two meta-iterations are timed.
        environments: of one agent on one device with all cores; None for the recipe's eight agents,
            shared out over one device per core.
    """
    count = devices.prepare(None if environments is None else 1)
    from loptrl.studies import meta_recipes, meta_runs
    from loptrl.studies.meta_training import make_meta_program

    config = meta_recipes.recipe("optim4rl", "stationary").config
    if environments is not None:
        config = dataclasses.replace(config, agents=1, num_envs=environments)
    program = make_meta_program(meta_runs.meta_spec("stationary", config))
    return _measured(_advanced(program, seconds), count)


NAMED: Mapping[str, Callable[[float], dict[str, float]]] = {
    BRAX: functools.partial(measure_brax, host_devices=1),
    BRAX_ALL: measure_brax,
    EVOLUTION: functools.partial(measure_evolution, host_devices=1),
    EVOLUTION_ALL: measure_evolution,
    META: measure_meta,
    META_SMALL: functools.partial(measure_meta, environments=128),
}
"""What stands in the place of an arm."""


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    of_arm = measure_floor if arguments.name.startswith(FLOOR) else measure_arm
    measure = NAMED.get(arguments.name, functools.partial(of_arm, arguments.name))
    print(json.dumps(measure(arguments.seconds)))


if __name__ == "__main__":
    _main()
