"""Stored runs of the studies without training: synthetic curves under real configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from loptrl import weights
from loptrl.envs.drift import Drift
from loptrl.ppo.config import PPOConfig
from loptrl.runs import RunSpec, Store
from loptrl.specs import plain

METRICS = (
    "update_norm_max", "largest_update", "update_norm", "weight_norm", "feature_rank_actor",
    "dormant_fraction_actor", "value_error", "approx_kl", "clip_fraction",
    "grad_norm", "entropy",
)  # fmt: skip
FACTS = {
    "versions": {"python": "3.11.1", "jax": "0.10.2"},
    "device": "2 x cpu (Some CPU, 2 cores)",
    "wall_time_s": 300.0,
    "peak_memory_bytes": 2**30,
    "env_steps_per_s": 60_000.0,
    "commit": "0123456789abcdef",
    "created": "2026-11-22T12:00:00+00:00",
    "resumed": 0,
}

Returns = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def keep(
    store: Store,
    spec: RunSpec,
    returns: Returns | float,
    *,
    update_norm: float = 0.01,
    metrics: Mapping[str, Callable[[int], np.ndarray]] | None = None,
    diverged_after: int | None = None,
    device: str = FACTS["device"],
) -> None:
    """Store a run.

    Args:
        store: where.
        spec: which; its configuration gives the rows and the drift.
        returns: evaluation returns from env steps, friction and seed, or their plateau.
        update_norm: level of the largest update norm.
        metrics: column -> its values from the number of rows after the first.
        diverged_after: rows after which the run is over, diverged.
        device: what it was computed on.
    """
    config = PPOConfig.from_dict(plain(spec.config))
    steps = np.arange(config.num_slices + 1) * config.env_steps_per_slice
    drift = Drift.from_dict(config.drift, seed=spec.seed).table(
        np.maximum(steps - config.batch_size, 0), 8
    )
    rng = np.random.default_rng([spec.seed, len(spec.arm)])
    if callable(returns):
        curve = returns(steps, drift.friction, spec.seed)
    else:
        curve = returns * np.tanh(steps / steps[-1] * 6) + rng.normal(0, 1, steps.size)
    frame = pd.DataFrame({"env_steps": steps, "eval_return": curve})
    frame["last_return"] = frame["eval_return"]
    frame.loc[0, ["eval_return", "last_return"]] = -10.0, np.nan
    for name in METRICS:
        level = update_norm if name == "update_norm_max" else 0.1
        frame[name] = level * np.exp(rng.normal(0, 0.05, steps.size))
        frame.loc[0, name] = np.nan
    for name, values in (metrics or {}).items():
        frame.loc[1:, name] = values(steps.size - 1)
    frame["dynamics_friction"] = drift.friction.astype(np.float64)
    frame["dynamics_actuator_strength"] = drift.strength.mean(axis=1).astype(np.float64)
    diverged_at = None
    if diverged_after is not None:
        frame = frame.iloc[: diverged_after + 1].copy()
        frame.loc[diverged_after, ["eval_return", "last_return"]] = np.nan
        diverged_at = int(steps[diverged_after])
    last = int(frame["env_steps"].iloc[-1])
    facts = FACTS | {"env_steps": last, "diverged_at": diverged_at, "device": device}
    store.write(spec, frame, facts)


def dipping(steps, friction, seed):
    """A return of 4000 with a dip to 1000 between 6 and 7 million env steps."""
    del friction
    return np.where((steps > 6e6) & (steps < 7e6), 1000.0, 4000.0 + 10 * seed)


def collapsing(steps, friction, seed):
    """A return of 4000 that falls to 100 after 10 million env steps."""
    del friction
    return np.where(steps > 10e6, 100.0 + seed, 4000.0)


def keep_weights(data: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Weights of our own for Optim4RL in a data folder, with a card that is made up."""
    card = {"family": "optim4rl", "trained_on": f"made up, {name}", "env_steps": 30_000_000}
    weights.save(data / "weights" / "optim4rl" / f"{name}.npz", arrays, card)
