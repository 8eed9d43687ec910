"""What a PPO agent does on each device: a rollout, advantages, updates, evaluation."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from loptrl.keys import derive
from loptrl.ppo import normalize
from loptrl.ppo.advantages import generalized_advantages
from loptrl.ppo.collectives import all_gather, pmean, psum
from loptrl.ppo.diagnostics import dormant_fraction, feature_rank
from loptrl.ppo.distributions import distribution
from loptrl.ppo.losses import Minibatch, ppo_loss
from loptrl.ppo.networks import Actor, Critic
from loptrl.ppo.rollout import EnvState, Transition, collect, evaluate, start
from loptrl.ppo.structure import HParams, Structure

__all__ = ["DEVICES", "Learner", "TrainState"]

DEVICES = "devices"
"""The mesh axis over which environments, and an optimizer's work, are split."""

_DIAGNOSTIC_SAMPLES = 2048


class TrainState(NamedTuple):
    """Everything that goes on from one iteration to the next.

    `env` is split over the devices, and so can parts of `opt_state` be; the rest is the same on
    each.
    """

    params: dict[str, Any]
    opt_state: Any
    env: EnvState
    observation_moments: normalize.Moments
    return_moments: normalize.Moments
    key: jax.Array
    iteration: jax.Array

    def evaluated(self) -> TrainState:
        """Without the optimizer's state and the worlds', which `Learner.evaluate` does not read."""
        return self._replace(opt_state=None, env=self.env._replace(world=None))


class Learner:
    """PPO for one world and one structure, for any optimizer, which is an argument of its methods.

    Every method is traced inside `jax.shard_map` over the axis `DEVICES`; arrays of environments
    are one device's share. Environments are stepped in chunks of at most 128 on CPUs, whose caches
    hold no more, and all together elsewhere.

    Args:
        structure: sizes and switches.
        world: a `VectorWorld`.
        devices: how many devices share the environments.
        rematerialize: an update keeps nothing for the backward pass but its inputs, and is
            computed again there (`jax.checkpoint`); of no effect where none is taken.
    """

    def __init__(
        self,
        structure: Structure,
        world: Any,
        *,
        devices: int = 1,
        rematerialize: bool = False,
    ) -> None:
        self.structure, self.world = structure, world
        self.num_devices, self.rematerialize = devices, rematerialize
        single = world.world
        self.policy = distribution(single.discrete)
        self.actor = Actor(
            single.action_size, single.discrete, structure.hidden, structure.activation
        )
        self.critic = Critic(structure.hidden, structure.activation)
        local = structure.num_envs // devices
        most = 128 if jax.default_backend() == "cpu" else local
        self._chunk = max(n for n in range(1, min(most, local) + 1) if local % n == 0)
        self._chunks = local // self._chunk

    def params(self, key: jax.Array) -> dict[str, Any]:
        """Fresh networks: `{"actor": ..., "critic": ...}`."""
        observation = jnp.zeros(self.world.world.observation_size)
        return {
            name: module.init(derive(key, name), observation)["params"]
            for name, module in (("actor", self.actor), ("critic", self.critic))
        }

    def start(
        self, optimizer: optax.GradientTransformationExtraArgs, key: jax.Array, dynamics: Any
    ) -> TrainState:
        """The state before the first update."""
        params = self.params(key)
        observation = jnp.zeros(self.world.world.observation_size)
        env_key = derive(derive(key, "env"), jax.lax.axis_index(DEVICES))
        return TrainState(
            params,
            optimizer.init(params),
            start(self.world, env_key, self._chunks, self._chunk, dynamics),
            normalize.new(observation.shape),
            normalize.new(()),
            derive(key, "train"),
            jnp.int32(0),
        )

    def _observe(self, moments: normalize.Moments, observation: jax.Array) -> jax.Array:
        if not self.structure.normalize_observations:
            return observation
        return normalize.standardize(moments, observation)

    def act(self, state: TrainState, observation: jax.Array) -> Any:
        """Raw observations to the policy's parameters."""
        x = self._observe(state.observation_moments, observation)
        return self.actor.apply({"params": state.params["actor"]}, x)[0]

    def value(self, state: TrainState, observation: jax.Array) -> jax.Array:
        """Raw observations to values."""
        x = self._observe(state.observation_moments, observation)
        return self.critic.apply({"params": state.params["critic"]}, x)[0]

    def iteration(
        self,
        optimizer: optax.GradientTransformationExtraArgs,
        state: TrainState,
        dynamics: Any,
        hparams: HParams,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Collect a rollout, estimate advantages, make epochs x minibatches updates."""
        key = derive(state.key, "iteration", state.iteration)
        state, batch, episodes = self.experience(state, dynamics, hparams, key)
        state, metrics = self.update(optimizer, state, batch, hparams, key)
        return state, metrics | episodes

    def experience(
        self,
        state: TrainState,
        dynamics: Any,
        hparams: HParams,
        key: jax.Array,
        length: int | None = None,
    ) -> tuple[TrainState, Minibatch, dict[str, jax.Array]]:
        """A rollout of the current policy, as one batch.

        Args:
            state: the learner's.
            dynamics: the physical parameters in force.
            hparams: the traced numbers.
            key: of this rollout, the same on all devices.
            length: env steps per environment; None for the structure's.

        Returns:
            The state with environments and running moments moved on; this device's samples; and
            sums over the episodes that ended.
        """
        device_key = derive(key, "device", jax.lax.axis_index(DEVICES))
        env, rollout = collect(
            self.world,
            self.policy,
            functools.partial(self.act, state),
            functools.partial(self.value, state),
            state.env,
            derive(device_key, "rollout"),
            dynamics,
            self.structure.rollout_length if length is None else length,
            hparams.discount,
            self.structure.bootstrap_truncation,
        )
        return_moments = state.return_moments
        if self.structure.normalize_rewards:
            return_moments = normalize.merge(return_moments, rollout.discounted, DEVICES)
        batch = self._batch(state, rollout, return_moments, hparams)
        episodes = psum(jnp.sum(rollout.finished_length > 0), DEVICES)
        figures = {"episodes": episodes.astype(jnp.float32)}
        for name in ("finished_return", "finished_length"):
            figures[name] = psum(jnp.sum(getattr(rollout, name)), DEVICES)
        moments = state.observation_moments
        if self.structure.normalize_observations:
            moments = normalize.merge(moments, rollout.observation, DEVICES)
        after = state._replace(env=env, observation_moments=moments, return_moments=return_moments)
        return after, batch, figures

    def _batch(
        self,
        state: TrainState,
        rollout: Transition,
        return_moments: normalize.Moments,
        hparams: HParams,
    ) -> Minibatch:
        """This device's samples, `[samples, ...]`; advantages raw if minibatches standardise."""
        reward = rollout.reward
        if self.structure.normalize_rewards:
            scale = jax.lax.rsqrt(return_moments.variance + 1e-8)
            reward = jnp.clip(reward * scale, -10.0, 10.0)
        terminated, truncated = rollout.terminated, rollout.truncated
        if not self.structure.bootstrap_truncation:
            terminated, truncated = terminated | truncated, jnp.zeros_like(truncated)
        time_first = [
            jnp.moveaxis(x, 1, 0)
            for x in (reward, rollout.value, rollout.next_value, terminated, truncated)
        ]
        advantage = generalized_advantages(*time_first, hparams.discount, hparams.gae_lambda)
        advantage = jnp.moveaxis(advantage, 0, 1)
        target = advantage + rollout.value
        if not self.structure.standardize_minibatches:
            advantage = _standardized(advantage)
        batch = Minibatch(
            self._observe(state.observation_moments, rollout.observation),
            rollout.action,
            rollout.log_prob,
            advantage,
            target,
            rollout.value if self.structure.clip_values else None,
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), batch)

    def loss(
        self, params: dict[str, Any], batch: Minibatch, hparams: HParams
    ) -> tuple[jax.Array, Any]:
        """The PPO loss of a batch, and what `ppo_loss` gives beside it."""
        if self.structure.standardize_minibatches:
            batch = batch._replace(advantage=_standardized(batch.advantage))
        return ppo_loss(params, batch, self.actor, self.critic, self.policy, hparams)

    def update(
        self,
        optimizer: optax.GradientTransformationExtraArgs,
        state: TrainState,
        batch: Minibatch,
        hparams: HParams,
        key: jax.Array,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Epochs x minibatches updates on one batch; `key` is the iteration's."""
        device_key = derive(key, "device", jax.lax.axis_index(DEVICES))
        shuffle_key, optimizer_key = derive(device_key, "shuffle"), derive(key, "optimizer")
        s = self.structure
        samples = batch.advantage.shape[0]
        training_fraction = state.iteration / jnp.maximum(hparams.num_iterations - 1.0, 1.0)

        def minibatch(carry: Any, x: Any) -> tuple[Any, dict[str, jax.Array]]:
            (params, opt_state), (index, epoch, update) = carry, x
            part = jax.tree.map(lambda a: a[index], batch)
            loss_fn = jax.value_and_grad(self.loss, has_aux=True)
            (loss, (metrics, activity)), grads = loss_fn(params, part, hparams)
            # One collective for everything that is averaged over the devices.
            flat, unravel = ravel_pytree((loss, metrics, activity, grads))
            loss, metrics, activity, grads = unravel(pmean(flat, DEVICES))
            # The norm of a network without a part in the loss is 0, where it has no derivative.
            norms = {n: _root(optax.tree.norm(g, squared=True)) for n, g in grads.items()}
            grads = {
                name: optax.tree.scale(_at_most(hparams.max_grad_norm, norms[name]), grads[name])
                for name in grads
            }
            updates, opt_state = optimizer.update(
                grads,
                opt_state,
                params,
                key=derive(optimizer_key, update),
                activity=activity,
                training_fraction=training_fraction,
                epoch_fraction=epoch / max(s.epochs - 1, 1),
                loss=loss,
            )
            params = optax.apply_updates(params, updates)
            metrics["grad_norm"] = jnp.sqrt(sum(n**2 for n in norms.values()))
            metrics["update_norm"] = optax.tree.norm(updates)
            metrics["largest_update"] = jnp.max(
                jnp.stack([jnp.max(jnp.abs(u)) for u in jax.tree.leaves(updates)])
            )
            return (params, opt_state), metrics

        step = jax.checkpoint(minibatch) if self.rematerialize else minibatch

        def epoch(carry: Any, number: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            order = jax.random.permutation(derive(shuffle_key, number), samples)
            indices = order.reshape(s.minibatches, -1)
            counts = number * s.minibatches + jnp.arange(s.minibatches)
            epochs = jnp.full(s.minibatches, number)
            return jax.lax.scan(step, carry, (indices, epochs, counts))

        carry, metrics = jax.lax.scan(epoch, (state.params, state.opt_state), jnp.arange(s.epochs))
        reduced = {name: jnp.mean(value) for name, value in metrics.items()}
        for name in ("update_norm", "grad_norm"):
            reduced[f"{name}_max"] = jnp.max(metrics[name])
        reduced["largest_update"] = jnp.max(metrics["largest_update"])
        params, opt_state = carry
        after = state._replace(params=params, opt_state=opt_state, iteration=state.iteration + 1)
        return after, reduced

    def slice(
        self,
        optimizer: optax.GradientTransformationExtraArgs,
        state: TrainState,
        dynamics: Any,
        hparams: HParams,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """`iterations_per_slice` iterations, one per leading entry of `dynamics`."""

        def one(state: TrainState, now: Any) -> tuple[TrainState, dict[str, jax.Array]]:
            return self.iteration(optimizer, state, now, hparams)

        state, metrics = jax.lax.scan(one, state, dynamics)
        out = {name: jnp.mean(value) for name, value in metrics.items()}
        for name in ("update_norm_max", "grad_norm_max", "largest_update"):
            out[name] = jnp.max(metrics[name])
        episodes = jnp.sum(metrics["episodes"])
        out["train_return"] = jnp.sum(metrics["finished_return"]) / episodes
        out["train_episode_length"] = jnp.sum(metrics["finished_length"]) / episodes
        out["last_return"] = pmean(jnp.mean(state.env.last_return), DEVICES)
        return state, out

    def evaluate(self, state: TrainState, dynamics: Any, greedy: jax.Array) -> dict[str, jax.Array]:
        """Evaluation episodes and the networks' diagnostics, for one row of the run.

        Args:
            state: its `evaluated` part.
            dynamics: the physical parameters, held fixed.
            greedy: play the policy's mode, or sample; a bool.
        """
        key = derive(state.key, "evaluation", state.iteration)
        returns, lengths = evaluate(
            self.world,
            self.policy,
            functools.partial(self.act, state),
            derive(key, jax.lax.axis_index(DEVICES)),
            dynamics,
            self.structure.eval_envs // self.num_devices,
            self.world.world.max_episode_steps,
            greedy,
        )
        returns = all_gather(returns, DEVICES)
        out = {
            "eval_return": jnp.mean(returns),
            "eval_return_std": jnp.std(returns),
            "eval_episode_length": pmean(jnp.mean(lengths), DEVICES),
            "weight_norm": optax.tree.norm(state.params),
        }
        # On-policy samples: where the environments stand now, on every device.
        samples = state.env.observation.reshape(-1, *state.env.observation.shape[2:])
        samples = samples[: _DIAGNOSTIC_SAMPLES // self.num_devices]
        samples = all_gather(samples, DEVICES)
        x = self._observe(state.observation_moments, samples)
        for name, module in (("actor", self.actor), ("critic", self.critic)):
            _, layers = module.apply({"params": state.params[name]}, x)
            out[f"dormant_fraction_{name}"] = dormant_fraction(layers, self.structure.activation)
            out[f"feature_rank_{name}"] = feature_rank(layers[-1])
        return out


def _standardized(advantage: jax.Array) -> jax.Array:
    """Mean 0 and variance 1 over this array of all devices."""
    mean = pmean(jnp.mean(advantage), DEVICES)
    variance = pmean(jnp.mean((advantage - mean) ** 2), DEVICES)
    return (advantage - mean) / (jnp.sqrt(variance) + 1e-8)


@jax.custom_jvp
def _root(x: jax.Array) -> jax.Array:
    """The square root, with derivative 0 at 0."""
    return jnp.sqrt(x)


@_root.defjvp
def _root_jvp(x: tuple[jax.Array], dx: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    # A rule of its own, since selecting between two cases would compile to other bits.
    root = _root(*x)
    return root, dx[0] / (2.0 * jnp.where(root == 0.0, jnp.inf, root))


def _at_most(bound: jax.Array, norm: jax.Array) -> jax.Array:
    """The factor that brings a norm down to the bound; its derivative is finite for any bound.

    A norm that is NaN gives NaN, so that the run diverges at that update.
    """
    above = ~(norm <= bound)
    return jnp.where(above, bound / jnp.where(above, norm, 1.0), 1.0)
