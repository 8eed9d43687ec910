"""Collecting experience: chunks of environments small enough for the cache, one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["EnvState", "Transition", "collect", "evaluate", "start"]

PolicyFn = Callable[[jax.Array], Any]
ValueFn = Callable[[jax.Array], jax.Array]


class EnvState(NamedTuple):
    """Environments in mid-episode; `[chunks, n]` leads every field but the world's own state.

    Attributes:
        world: the vector world's state of each chunk, `[chunks, ...]`.
        observation: raw, `[chunks, n, obs]`.
        episode_return, episode_length: of the episode so far, `[chunks, n]`.
        last_return: of the last episode that ended, 0 before, `[chunks, n]`.
        discounted: discounted sum of the past rewards, for their normalisation, `[chunks, n]`.
    """

    world: Any
    observation: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array
    last_return: jax.Array
    discounted: jax.Array


class Transition(NamedTuple):
    """A rollout, `[chunks, T, n, ...]`; observations and rewards are raw."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    next_value: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    discounted: jax.Array
    finished_return: jax.Array
    finished_length: jax.Array


def start(world: Any, key: jax.Array, chunks: int, n: int, dynamics: Any) -> EnvState:
    """`chunks` chunks of `n` environments at the start of their first episodes."""
    state, observation = jax.lax.map(
        lambda k: world.reset(k, n, dynamics), jax.random.split(key, chunks)
    )
    zeros = jnp.zeros((chunks, n))
    return EnvState(state, observation, zeros, zeros, zeros, zeros)


def collect(
    world: Any,
    policy: Any,
    act: PolicyFn,
    value: ValueFn,
    env: EnvState,
    key: jax.Array,
    dynamics: Any,
    length: int,
    discount: jax.Array,
    bootstrap_truncation: bool,
) -> tuple[EnvState, Transition]:
    """Play `length` env steps in every environment with the current policy.

    Args:
        world: a `VectorWorld`.
        policy: the action distribution.
        act: raw observations to the distribution's parameters.
        value: raw observations to values.
        env: where the environments stand.
        key: a typed key.
        dynamics: the physical parameters in force.
        length: env steps per environment.
        discount: gamma, for the discounted sums of rewards.
        bootstrap_truncation: `next_value` counts where a time limit ends an episode too. If not,
            it is not computed there: it is that of the next episode's first observation.
    """

    def one_chunk(args: tuple[EnvState, jax.Array]) -> tuple[EnvState, Transition]:
        def step(env: EnvState, key: jax.Array) -> tuple[EnvState, tuple[Any, ...]]:
            action_key, step_key = jax.random.split(key)
            parameters = act(env.observation)
            action = policy.sample(action_key, parameters)
            log_prob = policy.log_prob(parameters, action)
            state, out = world.step_autoreset(step_key, env.world, action, dynamics)
            over = out.terminated | out.truncated
            returns, lengths = env.episode_return + out.reward, env.episode_length + 1.0
            discounted = env.discounted * discount + out.reward
            keep = 1.0 - over.astype(jnp.float32)
            after = EnvState(
                state, out.observation, returns * keep, lengths * keep,
                jnp.where(over, returns, env.last_return), discounted * keep,
            )  # fmt: skip
            record = (
                env.observation, action, log_prob, out.final_observation, out.reward,
                out.terminated, out.truncated, discounted,
                jnp.where(over, returns, 0.0), jnp.where(over, lengths, 0.0),
            )  # fmt: skip
            return after, record

        env, key = args
        env, record = jax.lax.scan(step, env, jax.random.split(key, length))
        observation, action, log_prob, final, *rest = record
        values = value(observation)
        if bootstrap_truncation:
            following = value(final)
        else:
            following = jnp.concatenate([values[1:], value(env.observation)[None]])
        return env, Transition(observation, action, log_prob, values, following, *rest)

    chunks = env.episode_return.shape[0]
    return jax.lax.map(one_chunk, (env, jax.random.split(key, chunks)))


def evaluate(
    world: Any,
    policy: Any,
    act: PolicyFn,
    key: jax.Array,
    dynamics: Any,
    episodes: int,
    max_steps: int,
    greedy: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Undiscounted returns and lengths `[episodes]` of one whole episode each.

    Apart from the training data: fresh environments, the policy's mode if `greedy` (a traced
    bool) and samples otherwise, the dynamics held fixed.
    """
    reset_key, play_key = jax.random.split(key)
    state, observation = world.reset(reset_key, episodes, dynamics)
    zeros = jnp.zeros(episodes)

    def go_on(carry: Any) -> jax.Array:
        t, _, _, alive, _, _ = carry
        return (t < max_steps) & jnp.any(alive)

    def step(carry: Any) -> Any:
        t, state, observation, alive, returns, lengths = carry
        action_key, step_key = jax.random.split(jax.random.fold_in(play_key, t))
        parameters = act(observation)
        sampled = policy.sample(action_key, parameters)
        action = jnp.where(greedy, policy.mode(parameters), sampled)
        state, out = world.step(step_key, state, action, dynamics)
        # Selected, not multiplied: what a finished episode goes on to do may be infinite.
        returns = jnp.where(alive, returns + out.reward, returns)
        lengths = lengths + alive
        alive = alive & ~(out.terminated | out.truncated)
        return t + 1, state, out.observation, alive, returns, lengths

    carry = (jnp.int32(0), state, observation, jnp.ones(episodes, bool), zeros, zeros)
    *_, returns, lengths = jax.lax.while_loop(go_on, step, carry)
    return returns, lengths
