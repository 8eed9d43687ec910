"""The gradient of an agent's loss, after some of its updates, with respect to the update rule."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from loptrl.keys import derive
from loptrl.meta.statistics import cosine, log_histogram
from loptrl.ppo.learner import Learner, TrainState
from loptrl.ppo.losses import Minibatch
from loptrl.ppo.structure import HParams

__all__ = ["Bilevel", "Unrolled"]

Rule = Callable[[Any], optax.GradientTransformationExtraArgs]


class Unrolled(NamedTuple):
    """What an agent went through, beside the meta-gradient.

    Attributes:
        state: the agent after its inner updates, with the meta-rollout played.
        meta_loss: `[]`.
        metrics: means over the inner updates, and sums over the episodes that ended; with
            `Bilevel.statistics` more, see there.
    """

    state: TrainState
    meta_loss: jax.Array
    metrics: dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Bilevel:
    """The meta-gradient through k PPO iterations of one agent.

    d/dtheta L(phi_k(theta); fresh rollout of phi_k), where phi_{i+1} comes from phi_i by all the
    updates (epochs x minibatches) of one PPO iteration with the rule `rule(theta)`
    (Lan et al. 2024). Rollouts are data: no gradient flows through actions, physics,
    observations and their statistics, unless `through_dynamics`; through advantages and value
    targets it never does.

    Attributes:
        learner: the agents'; inside `jax.shard_map`, as all its methods.
        rule: theta to the transformation.
        inner_updates: k, PPO iterations.
        meta_rollout_length: env steps per environment of the fresh rollout.
        agent_l2: strength of an L2 penalty in the agents' loss, which the meta-loss is one of.
        through_dynamics: the gradient also flows through actions, physics, observations and
            recorded log-probabilities (`MetaConfig.through_dynamics` says what that does).
        policy: False takes the clipped surrogate out of the meta-loss.
        rematerialize_iterations: the backward pass computes each iteration's updates again.
        statistics: the metrics also tell of the agent's own gradient of the meta-loss,
            "agent_gradient", its `log_histogram`.
        whole: a rule with the same values and other derivatives, whose meta-gradient is taken,
            too: "whole_cosine" and "whole_norm_ratio" compare the meta-gradient with it.
    """

    learner: Learner
    rule: Rule
    inner_updates: int
    meta_rollout_length: int
    agent_l2: float = 0.0
    through_dynamics: bool = False
    policy: bool = True
    rematerialize_iterations: bool = False
    statistics: bool = False
    whole: Rule | None = None

    def gradient(
        self, theta: Any, state: TrainState, dynamics: Any, hparams: HParams
    ) -> tuple[Any, Unrolled]:
        """The meta-gradient, like theta, and what happened.

        Args:
            theta: the rule's weights.
            state: the agent before its inner updates.
            dynamics: in force in each inner iteration and in the meta-rollout, `[k + 1, ...]`.
            hparams: the traced numbers.
        """
        arguments = theta, state, dynamics, hparams
        gradient = functools.partial(jax.grad, has_aux=True)
        grads, unrolled = gradient(functools.partial(self._meta_loss, self.rule))(*arguments)
        if self.whole is not None:
            other, _ = gradient(functools.partial(self._meta_loss, self.whole))(*arguments)
            compared = {
                "whole_cosine": cosine(grads, other),
                "whole_norm_ratio": optax.tree.norm(grads) / optax.tree.norm(other),
            }
            unrolled = unrolled._replace(metrics=unrolled.metrics | compared)
        return grads, unrolled

    def _meta_loss(
        self, rule: Rule, theta: Any, state: TrainState, dynamics: Any, hparams: HParams
    ) -> tuple[jax.Array, Unrolled]:
        optimizer = rule(theta)

        def updates(
            state: TrainState, batch: Minibatch, key: jax.Array
        ) -> tuple[TrainState, dict[str, jax.Array]]:
            return self.learner.update(optimizer, state, batch, hparams, key)

        if self.rematerialize_iterations:
            updates = jax.checkpoint(updates)

        def one(state: TrainState, now: Any) -> tuple[TrainState, dict[str, jax.Array]]:
            key = derive(state.key, "iteration", state.iteration)
            state, batch, episodes = self._play(state, now, hparams, key)
            state, metrics = updates(state, batch, key)
            return state, metrics | episodes

        inner = jax.tree.map(lambda x: x[:-1], dynamics)
        last = jax.tree.map(lambda x: x[-1], dynamics)
        state, metrics = jax.lax.scan(one, state, inner, length=self.inner_updates)
        key = derive(state.key, "meta", state.iteration)
        state, batch, episodes = self._play(state, last, hparams, key, self.meta_rollout_length)
        # Without advantages the surrogate is 0, and so is its derivative.
        nothing = jnp.zeros_like(batch.advantage)
        judged = batch if self.policy else batch._replace(advantage=nothing)
        loss, _ = self.learner.loss(state.params, judged, hparams)
        loss += 0.5 * self.agent_l2 * optax.tree.norm(state.params, squared=True)
        summed = {name: jnp.sum(metrics.pop(name)) + episodes[name] for name in episodes}
        means = {name: jnp.mean(value) for name, value in metrics.items()}
        if self.statistics:
            params, data = jax.lax.stop_gradient((state.params, batch))
            own = jax.grad(lambda p: self.learner.loss(p, data, hparams)[0])(params)
            means["agent_gradient"] = log_histogram(own)
        return loss, Unrolled(state, loss, means | summed)

    def _play(
        self,
        state: TrainState,
        dynamics: Any,
        hparams: HParams,
        key: jax.Array,
        length: int | None = None,
    ) -> tuple[TrainState, Minibatch, dict[str, jax.Array]]:
        """`Learner.experience`, without the gradient paths that are not wanted."""
        played = state if self.through_dynamics else jax.lax.stop_gradient(state)
        after, batch, episodes = self.learner.experience(played, dynamics, hparams, key, length)
        stop = jax.lax.stop_gradient
        value = None if batch.value is None else stop(batch.value)
        batch = batch._replace(
            advantage=stop(batch.advantage), target=stop(batch.target), value=value
        )
        return after._replace(params=state.params, opt_state=state.opt_state), batch, episodes
