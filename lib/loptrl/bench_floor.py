"""The least time that an update of a learned rule can take on a machine: its arithmetic's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from loptrl import optimizers
from loptrl.ppo.config import PPOConfig

__all__ = ["arithmetic", "machine_rates", "update_seconds"]

_PROBE = 512
"""Parameters of each probed network: one chunk for both, for in a loop XLA counts one turn."""

_SIDE = 256
"""Of square matrices that stay in a core's cache."""


def update_seconds(config: PPOConfig, parameters: int) -> float:
    """Seconds that the arithmetic of one update takes on all devices, and nothing else.

    N (f / F + e / E): N parameters, f floating-point operations and e transcendental functions for
    each (`arithmetic`), F and E the machine's rates (`machine_rates`). Memory, loops and the
    shapes of the rule's small matrices only add to it.

    Args:
        config: an agent whose optimizer is a learned rule.
        parameters: N, of actor and critic together.
    """
    rule = config.optimizer
    optimizer = optimizers.make(
        rule.name,
        weights=rule.weights,
        learning_rate=rule.learning_rate,
        num_updates=config.num_updates,
    )
    operations, transcendentals = arithmetic(optimizer)
    per_second, transcendentals_per_second = machine_rates()
    return parameters * (operations / per_second + transcendentals / transcendentals_per_second)


def arithmetic(optimizer: optax.GradientTransformationExtraArgs) -> tuple[float, float]:
    """Floating-point operations and transcendental functions of an update, for each parameter.

    XLA counts them in the compiled update of two networks of `_PROBE` parameters each.
    """
    layer = {"layer": {"kernel": jnp.ones((16, _PROBE // 16))}}
    params = {"actor": layer, "critic": layer}

    def update(grads: Any, state: Any, key: jax.Array) -> Any:
        return optimizer.update(grads, state, params, key=key, training_fraction=0.0, loss=0.0)

    compiled = jax.jit(update).lower(params, optimizer.init(params), jax.random.key(0)).compile()
    counted = compiled.cost_analysis()
    return counted["flops"] / (2 * _PROBE), counted["transcendentals"] / (2 * _PROBE)


def machine_rates() -> tuple[float, float]:
    """Floating-point operations and transcendental functions per second, on all devices together.

    The first of products of float32 matrices, the second of tanh, both without leaving the cache.
    """
    matrix = jnp.full((_SIDE, _SIDE), 1.0 / _SIDE)
    turns = 100
    products = _best_seconds(lambda x: x @ matrix, matrix, turns)
    tanhs = _best_seconds(jnp.tanh, matrix, turns)
    count = jax.device_count() * turns
    return count * 2.0 * _SIDE**3 / products, count * float(_SIDE**2) / tanhs


def _best_seconds(step: Callable[[jax.Array], jax.Array], x: jax.Array, turns: int) -> float:
    """Of several tries of `turns` steps, all devices at once."""
    mesh = jax.sharding.Mesh(jax.devices(), "d")
    spec = jax.sharding.PartitionSpec("d")

    def loop(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, turns, lambda _, y: step(y), x)

    run = jax.jit(jax.shard_map(loop, mesh=mesh, in_specs=spec, out_specs=spec))
    xs = jnp.concatenate([x] * jax.device_count())
    jax.block_until_ready(run(xs))
    tries = []
    for _ in range(9):
        started = time.perf_counter()
        jax.block_until_ready(run(xs))
        tries.append(time.perf_counter() - started)
    return min(tries)
