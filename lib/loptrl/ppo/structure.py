"""What of a configuration is compiled in, what is traced, and over how many devices it spreads."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from loptrl.ppo.config import PPOConfig

__all__ = ["HParams", "Structure", "count_devices"]


class HParams(NamedTuple):
    """The traced numbers of `PPOConfig`; infinity switches a clip off."""

    discount: Any
    gae_lambda: Any
    clip_ratio: Any
    value_clip: Any
    max_grad_norm: Any
    value_coef: Any
    entropy_coef: Any
    num_iterations: Any

    @classmethod
    def of(cls, config: PPOConfig) -> HParams:
        """The traced numbers of a configuration, as float32 scalars."""
        bounds = config.clip_ratio, config.value_clip, config.max_grad_norm
        values = (
            config.discount,
            config.gae_lambda,
            *(math.inf if bound is None else bound for bound in bounds),
            config.value_coef,
            config.entropy_coef,
            config.num_slices * config.iterations_per_slice,
        )
        return cls(*(jnp.float32(v) for v in values))


@dataclasses.dataclass(frozen=True)
class Structure:
    """What shapes the compiled agent: a new value of any of these compiles anew."""

    num_envs: int
    rollout_length: int
    epochs: int
    minibatches: int
    hidden: tuple[int, ...]
    activation: str
    normalize_observations: bool
    normalize_rewards: bool
    standardize_minibatches: bool
    bootstrap_truncation: bool
    clip_values: bool
    eval_envs: int
    iterations_per_slice: int

    @classmethod
    def of(cls, config: PPOConfig) -> Structure:
        """The static part of a configuration."""
        names = [f.name for f in dataclasses.fields(cls) if f.name != "clip_values"]
        clips = config.value_clip is not None
        return cls(clip_values=clips, **{name: getattr(config, name) for name in names})


def count_devices(structure: Structure, most: int | None = None) -> int:
    """How many devices share an agent's environments, episodes and minibatches evenly.

    Args:
        structure: its sizes.
        most: at most this many; None for all that jax has.
    """
    minibatch = structure.num_envs * structure.rollout_length // structure.minibatches
    shared = math.gcd(structure.num_envs, structure.eval_envs, minibatch)
    most = jax.device_count() if most is None else most
    return max(d for d in range(1, most + 1) if shared % d == 0)
