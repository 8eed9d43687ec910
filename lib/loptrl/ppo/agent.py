"""The PPO agent: one iteration, a slice of iterations, and evaluation, over a mesh of devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from loptrl.keys import derive
from loptrl.ppo import normalize
from loptrl.ppo.advantages import generalized_advantages
from loptrl.ppo.diagnostics import dormant_fraction, feature_rank
from loptrl.ppo.distributions import distribution
from loptrl.ppo.losses import Minibatch, ppo_loss
from loptrl.ppo.networks import Actor, Critic
from loptrl.ppo.rollout import EnvState, Transition, collect, evaluate, start
from loptrl.ppo.structure import HParams, Structure, count_devices

__all__ = ["DEVICES", "Agent", "TrainState"]

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


class Agent:
    """PPO for one world, one optimizer and one structure, compiled once.

    Args:
        structure: sizes and switches.
        world: a `VectorWorld`.
        optimizer: any optax transformation; it is offered `key`, `activity`,
            `training_fraction`, `epoch_fraction` and `loss` on every update.
        chunk: environments stepped together; None takes 128 on CPUs, all of them elsewhere.
        devices: at most how many devices share the environments (see `count_devices`).
        split_state: which arrays of the optimizer's state are split over `DEVICES`, along their
            first axis: a tree of bools from a state; by default none is.
    """

    def __init__(
        self,
        structure: Structure,
        world: Any,
        optimizer: optax.GradientTransformation,
        *,
        chunk: int | None = None,
        devices: int | None = None,
        split_state: Callable[[Any], Any] | None = None,
    ) -> None:
        self.structure, self.world = structure, world
        single = world.world
        self.optimizer = optax.with_extra_args_support(optimizer)
        self.policy = distribution(single.discrete)
        self.actor = Actor(
            single.action_size, single.discrete, structure.hidden, structure.activation
        )
        self.critic = Critic(structure.hidden, structure.activation)
        self.num_devices = count_devices(structure, devices)
        local = structure.num_envs // self.num_devices
        most = chunk or (128 if jax.default_backend() == "cpu" else local)
        self._chunk = max(n for n in range(1, min(most, local) + 1) if local % n == 0)
        self._chunks = local // self._chunk
        self.mesh = Mesh(jax.devices()[: self.num_devices], (DEVICES,))
        replicated, split = PartitionSpec(), PartitionSpec(DEVICES)
        optimizer_state: Any = replicated
        if split_state is not None:
            params = jax.eval_shape(self._params, jax.random.key(0))
            which = split_state(jax.eval_shape(self.optimizer.init, params))
            optimizer_state = jax.tree.map(lambda one: split if one else replicated, which)
        state = TrainState(replicated, optimizer_state, split, *[replicated] * 4)
        self.shardings = jax.tree.map(
            lambda spec: NamedSharding(self.mesh, spec),
            state,
            is_leaf=lambda x: isinstance(x, PartitionSpec),
        )
        shard = functools.partial(jax.shard_map, mesh=self.mesh, check_vma=False)
        self.start = jax.jit(shard(self._start, in_specs=(replicated, replicated), out_specs=state))
        self.slice = jax.jit(
            shard(
                self._slice,
                in_specs=(state, replicated, replicated),
                out_specs=(state, replicated),
            ),
            donate_argnums=0,
        )
        self.evaluate = jax.jit(
            shard(
                self._evaluate,
                in_specs=(state, replicated, replicated),
                out_specs=replicated,
            )
        )

    # Every method below runs on each device; arrays of environments are that device's share.

    def _params(self, key: jax.Array) -> dict[str, Any]:
        observation = jnp.zeros(self.world.world.observation_size)
        return {
            name: module.init(derive(key, name), observation)["params"]
            for name, module in (("actor", self.actor), ("critic", self.critic))
        }

    def _start(self, key: jax.Array, dynamics: Any) -> TrainState:
        params = self._params(key)
        observation = jnp.zeros(self.world.world.observation_size)
        env_key = derive(derive(key, "env"), jax.lax.axis_index(DEVICES))
        return TrainState(
            params,
            self.optimizer.init(params),
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

    def _act(self, state: TrainState, observation: jax.Array) -> Any:
        x = self._observe(state.observation_moments, observation)
        return self.actor.apply({"params": state.params["actor"]}, x)[0]

    def _value(self, state: TrainState, observation: jax.Array) -> jax.Array:
        x = self._observe(state.observation_moments, observation)
        return self.critic.apply({"params": state.params["critic"]}, x)[0]

    def _iteration(
        self, state: TrainState, dynamics: Any, hparams: HParams
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Collect a rollout, estimate advantages, make epochs x minibatches updates."""
        s = self.structure
        key = derive(state.key, "iteration", state.iteration)
        device_key = derive(key, "device", jax.lax.axis_index(DEVICES))
        env, rollout = collect(
            self.world,
            self.policy,
            functools.partial(self._act, state),
            functools.partial(self._value, state),
            state.env,
            derive(device_key, "rollout"),
            dynamics,
            s.rollout_length,
            hparams.discount,
        )
        return_moments = normalize.merge(state.return_moments, rollout.discounted, DEVICES)
        batch = self._batch(state, rollout, return_moments, hparams)
        (params, opt_state), metrics = self._update(
            state, batch, derive(device_key, "shuffle"), derive(key, "optimizer"), hparams
        )
        episodes = jax.lax.psum(jnp.sum(rollout.finished_length > 0), DEVICES)
        metrics["episodes"] = episodes.astype(jnp.float32)
        for name in ("finished_return", "finished_length"):
            metrics[name] = jax.lax.psum(jnp.sum(getattr(rollout, name)), DEVICES)
        after = TrainState(
            params,
            opt_state,
            env,
            normalize.merge(state.observation_moments, rollout.observation, DEVICES),
            return_moments,
            state.key,
            state.iteration + 1,
        )
        return after, metrics

    def _batch(
        self,
        state: TrainState,
        rollout: Transition,
        return_moments: normalize.Moments,
        hparams: HParams,
    ) -> Minibatch:
        """This device's samples, `[samples, ...]`; advantages standardised over all devices."""
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
        mean = jax.lax.pmean(jnp.mean(advantage), DEVICES)
        variance = jax.lax.pmean(jnp.mean((advantage - mean) ** 2), DEVICES)
        batch = Minibatch(
            self._observe(state.observation_moments, rollout.observation),
            rollout.action,
            rollout.log_prob,
            (advantage - mean) / (jnp.sqrt(variance) + 1e-8),
            target,
            rollout.value if self.structure.clip_values else None,
        )
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), batch)

    def _update(
        self,
        state: TrainState,
        batch: Minibatch,
        shuffle_key: jax.Array,
        optimizer_key: jax.Array,
        hparams: HParams,
    ) -> tuple[tuple[Any, Any], dict[str, jax.Array]]:
        s = self.structure
        samples = batch.advantage.shape[0]
        training_fraction = state.iteration / jnp.maximum(hparams.num_iterations - 1.0, 1.0)

        def minibatch(carry: Any, x: Any) -> tuple[Any, dict[str, jax.Array]]:
            (params, opt_state), (index, epoch, update) = carry, x
            part = jax.tree.map(lambda a: a[index], batch)
            loss_fn = functools.partial(
                ppo_loss,
                batch=part,
                actor=self.actor,
                critic=self.critic,
                policy=self.policy,
                hparams=hparams,
            )
            (loss, (metrics, activity)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
            # One collective for everything that is averaged over the devices.
            flat, unravel = ravel_pytree((loss, metrics, activity, grads))
            loss, metrics, activity, grads = unravel(jax.lax.pmean(flat, DEVICES))
            norms = {name: optax.tree.norm(grads[name]) for name in grads}
            grads = {
                name: jax.tree.map(
                    lambda g, n=norms[name]: g * jnp.minimum(1.0, hparams.max_grad_norm / n),
                    grads[name],
                )
                for name in grads
            }
            updates, opt_state = self.optimizer.update(
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

        def epoch(carry: Any, number: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            order = jax.random.permutation(derive(shuffle_key, number), samples)
            indices = order.reshape(s.minibatches, -1)
            counts = number * s.minibatches + jnp.arange(s.minibatches)
            epochs = jnp.full(s.minibatches, number)
            return jax.lax.scan(minibatch, carry, (indices, epochs, counts))

        carry, metrics = jax.lax.scan(epoch, (state.params, state.opt_state), jnp.arange(s.epochs))
        reduced = {name: jnp.mean(value) for name, value in metrics.items()}
        for name in ("update_norm", "grad_norm"):
            reduced[f"{name}_max"] = jnp.max(metrics[name])
        reduced["largest_update"] = jnp.max(metrics["largest_update"])
        return carry, reduced

    def _slice(
        self, state: TrainState, dynamics: Any, hparams: HParams
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """`iterations_per_slice` iterations, one per leading entry of `dynamics`."""

        def one(state: TrainState, now: Any) -> tuple[TrainState, dict[str, jax.Array]]:
            return self._iteration(state, now, hparams)

        state, metrics = jax.lax.scan(one, state, dynamics)
        out = {name: jnp.mean(value) for name, value in metrics.items()}
        for name in ("update_norm_max", "grad_norm_max", "largest_update"):
            out[name] = jnp.max(metrics[name])
        episodes = jnp.sum(metrics["episodes"])
        out["train_return"] = jnp.sum(metrics["finished_return"]) / episodes
        out["train_episode_length"] = jnp.sum(metrics["finished_length"]) / episodes
        out["last_return"] = jax.lax.pmean(jnp.mean(state.env.last_return), DEVICES)
        return state, out

    def _evaluate(
        self, state: TrainState, dynamics: Any, greedy: jax.Array
    ) -> dict[str, jax.Array]:
        """Evaluation episodes and the networks' diagnostics, for one row of the run."""
        key = derive(state.key, "evaluation", state.iteration)
        returns, lengths = evaluate(
            self.world,
            self.policy,
            functools.partial(self._act, state),
            derive(key, jax.lax.axis_index(DEVICES)),
            dynamics,
            self.structure.eval_envs // self.num_devices,
            self.world.world.max_episode_steps,
            greedy,
        )
        returns = jax.lax.all_gather(returns, DEVICES)
        out = {
            "eval_return": jnp.mean(returns),
            "eval_return_std": jnp.std(returns),
            "eval_episode_length": jax.lax.pmean(jnp.mean(lengths), DEVICES),
            "weight_norm": optax.tree.norm(state.params),
        }
        # On-policy samples: where the environments stand now, on every device.
        samples = state.env.observation.reshape(-1, *state.env.observation.shape[2:])
        samples = samples[: _DIAGNOSTIC_SAMPLES // self.num_devices]
        samples = jax.lax.all_gather(samples, DEVICES, tiled=True)
        x = self._observe(state.observation_moments, samples)
        for name, module in (("actor", self.actor), ("critic", self.critic)):
            _, layers = module.apply({"params": state.params[name]}, x)
            out[f"dormant_fraction_{name}"] = dormant_fraction(layers, self.structure.activation)
            out[f"feature_rank_{name}"] = feature_rank(layers[-1])
        return out
