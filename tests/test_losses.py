"""The PPO objective: its value by hand, where its gradient vanishes, what None means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl.ppo.config import PPOConfig
from loptrl.ppo.distributions import DiagonalGaussian
from loptrl.ppo.losses import Minibatch, ppo_loss
from loptrl.ppo.networks import Actor, Critic
from loptrl.ppo.structure import HParams

ACTOR = Actor(2, False, (8,), "tanh")
CRITIC = Critic((8,), "tanh")
OBSERVATION = jax.random.normal(jax.random.key(0), (16, 3))
PARAMS = {
    "actor": ACTOR.init(jax.random.key(1), OBSERVATION)["params"],
    "critic": CRITIC.init(jax.random.key(2), OBSERVATION)["params"],
}
POLICY = ACTOR.apply({"params": PARAMS["actor"]}, OBSERVATION)[0]
VALUE = CRITIC.apply({"params": PARAMS["critic"]}, OBSERVATION)[0]
ACTION = POLICY[0] + jax.random.normal(jax.random.key(3), POLICY[0].shape)
LOG_PROB = DiagonalGaussian.log_prob(POLICY, ACTION)
ADVANTAGE = jax.random.normal(jax.random.key(4), (16,))
TARGET = VALUE + 0.3


def loss(params=PARAMS, *, log_ratio=0.0, advantage=ADVANTAGE, **settings):
    """The loss where every new probability is exp(log_ratio) times the old one."""
    batch = Minibatch(OBSERVATION, ACTION, LOG_PROB - log_ratio, advantage, TARGET)
    hparams = HParams.of(PPOConfig(**settings))
    return ppo_loss(params, batch, ACTOR, CRITIC, DiagonalGaussian, hparams)


def actor_gradient(**kwargs):
    grads = jax.grad(lambda p: loss(p, **kwargs)[0])(PARAMS)["actor"]
    return max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads))


def test_the_value_by_hand():
    log_ratio = np.linspace(-0.5, 0.5, 16).astype(np.float32)
    got, (metrics, _) = loss(log_ratio=log_ratio, value_coef=0.7, entropy_coef=0.01)
    ratio, advantage = np.exp(log_ratio), np.asarray(ADVANTAGE)
    surrogate = np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage).mean()
    entropy = 2 * 0.5 * np.log(2 * np.pi * np.e)
    assert float(got) == pytest.approx(-surrogate + 0.35 * 0.09 - 0.01 * entropy, rel=1e-4)
    assert float(metrics["value_error"]) == pytest.approx(0.09, rel=1e-4)
    assert float(metrics["entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(metrics["approx_kl"]) == pytest.approx((ratio - 1 - log_ratio).mean(), rel=1e-3)
    assert float(metrics["clip_fraction"]) == np.mean(np.abs(ratio - 1) > 0.2)


@pytest.mark.parametrize(
    ("log_ratio", "sign", "moves"),
    [
        (0.0, 1.0, True),
        (0.5, 1.0, False),  # already much likelier, and good: no more of it
        (-0.5, -1.0, False),  # already much rarer, and bad
        (0.5, -1.0, True),  # much likelier but bad: back
        (-0.5, 1.0, True),
    ],
)
def test_the_gradient_vanishes_only_outside_the_clip(log_ratio, sign, moves):
    kwargs = {"log_ratio": log_ratio, "advantage": sign * jnp.abs(ADVANTAGE)}
    assert (actor_gradient(**kwargs) > 1e-6) is moves
    assert actor_gradient(**kwargs, clip_ratio=None) > 1e-6


@pytest.mark.parametrize("log_ratio", [-120.0, 120.0])
def test_a_ratio_beyond_float32_has_a_gradient(log_ratio):
    """Where the clip makes the objective flat it is 0, and not 0 times infinity."""
    value, _ = loss(log_ratio=log_ratio, advantage=jnp.abs(ADVANTAGE) * jnp.sign(log_ratio))
    assert np.isfinite(value)
    for sign in (1.0, -1.0):
        gradient = actor_gradient(log_ratio=log_ratio, advantage=sign * jnp.abs(ADVANTAGE))
        assert np.isfinite(gradient)


def test_no_clip_is_an_infinite_one():
    config = PPOConfig(clip_ratio=None, max_grad_norm=None)
    assert HParams.of(config).clip_ratio == np.inf and HParams.of(config).max_grad_norm == np.inf
    for log_ratio in (0.0, 3.0, -3.0):
        free, (metrics, _) = loss(log_ratio=log_ratio, clip_ratio=None)
        wide, _ = loss(log_ratio=log_ratio, clip_ratio=1e6)
        plain = -float(jnp.mean(np.exp(log_ratio) * ADVANTAGE)) + 0.5 * 0.5 * 0.09
        assert float(free) == pytest.approx(plain, rel=1e-4)
        assert float(free) == float(wide)
        assert float(metrics["clip_fraction"]) == 0.0
    grads = jax.grad(lambda p: loss(p, log_ratio=1.0, clip_ratio=None)[0])(PARAMS)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_the_critic_follows_its_target_and_the_actor_does_not():
    grads = jax.grad(lambda p: loss(p, advantage=jnp.zeros(16))[0])(PARAMS)
    assert all(float(jnp.abs(g).max()) < 1e-7 for g in jax.tree.leaves(grads["actor"]))
    bias = grads["critic"]["Dense_1"]["bias"]
    # d/db of 0.5 * c_v * mean (V - target)^2
    assert float(bias[0]) == pytest.approx(0.5 * -0.3, rel=1e-4)


def test_activity_is_the_mean_absolute_activation():
    _, (_, activity) = loss()
    last = {"actor": np.abs(POLICY[0]).mean(0), "critic": np.abs(VALUE)[:, None].mean(0)}
    for name, module in (("actor", ACTOR), ("critic", CRITIC)):
        _, layers = module.apply({"params": PARAMS[name]}, OBSERVATION)
        hidden, output, *rest = activity[name]
        np.testing.assert_allclose(hidden, np.abs(layers[0]).mean(0), rtol=1e-5)
        np.testing.assert_allclose(output, last[name], rtol=1e-5)
        assert len(rest) == (name == "actor")
    np.testing.assert_allclose(activity["actor"][2], np.exp(POLICY[1]).mean(keepdims=True))


def test_a_value_clip_takes_the_larger_error():
    """V moved by +0.5 from the rollout's; with the clip at 0.2 it counts as V_old + 0.2."""
    old = VALUE - 0.5
    hparams = HParams.of(PPOConfig(value_clip=0.2, value_coef=1.0))
    errors = {}
    for target in (0.0, 1.0):  # above V_old
        batch = Minibatch(OBSERVATION, ACTION, LOG_PROB, 0 * ADVANTAGE, old + target, old)
        _, (metrics, _) = ppo_loss(PARAMS, batch, ACTOR, CRITIC, DiagonalGaussian, hparams)
        errors[target] = float(metrics["value_error"])
    # target 0: V is off by 0.5, the clipped one by 0.2; target 1: by 0.5 and by 0.8.
    assert errors[0.0] == pytest.approx(0.25, rel=1e-4)
    assert errors[1.0] == pytest.approx(0.64, rel=1e-4)
