"""Throughput of other people's trainers on Breakout, in the Python of their checkouts.

`loptrl bench` hands this file to another interpreter, whose current folder is the checkout: it
imports nothing of this library, and theirs only where it is used.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

_ENVS, _STEPS = 64, 128


def open_rule(large: bool, env_steps: int) -> Callable[[Any], Any]:
    """OPEN as in AlexGoldie/rl-learned-optimization, with the weights of the checkout."""
    import jax
    import numpy as np
    from jax.flatten_util import ravel_pytree
    from rl_optimizer.configs import all_configs
    from rl_optimizer.network import GRU_Opt
    from rl_optimizer.train import make_train

    name = "multi" if large else "breakout"
    vector = np.load(f"rl_optimizer/pretrained/{name}_OPEN.npy", allow_pickle=False)
    width, hidden = (32, 16) if large else (16, 8)
    rule = GRU_Opt(hidden_size=width, gru_features=hidden)
    theta = ravel_pytree(rule.init(jax.random.PRNGKey(0)))[1](vector)
    # As in their search: with what they plot it would take longer.
    settings = {"TOTAL_TIMESTEPS": env_steps, "larger": large, "VISUALISE": False}
    train = make_train({**all_configs["breakout"], **settings})
    return lambda key: train(theta, key)


def purejaxrl(env_steps: int) -> Callable[[Any], Any]:
    """PPO with Adam as in luchris429/purejaxrl, with the sizes of OPEN's agent."""
    import jax
    from purejaxrl.ppo import make_train

    return jax.jit(
        make_train(
            {
                "LR": 1e-2,
                "NUM_ENVS": _ENVS,
                "NUM_STEPS": _STEPS,
                "TOTAL_TIMESTEPS": env_steps,
                "UPDATE_EPOCHS": 4,
                "NUM_MINIBATCHES": 8,
                "GAMMA": 0.99,
                "GAE_LAMBDA": 0.95,
                "CLIP_EPS": 0.2,
                "ENT_COEF": 0.01,
                "VF_COEF": 0.5,
                "MAX_GRAD_NORM": 0.5,
                "ACTIVATION": "relu",
                "ENV_NAME": "Breakout-MinAtar",
                "ANNEAL_LR": True,
                "DEBUG": False,
            }
        )
    )


def main(name: str, seconds: float) -> None:
    """Print the second of two trainings' env steps per second; the first one compiles."""
    import jax

    env_steps = _ENVS * _STEPS * max(3, round(seconds * 15_000 / (_ENVS * _STEPS)))
    train = purejaxrl(env_steps) if name == "purejaxrl" else open_rule("multi" in name, env_steps)
    jax.block_until_ready(train(jax.random.PRNGKey(0)))
    started = time.perf_counter()
    jax.block_until_ready(train(jax.random.PRNGKey(1)))
    found = {
        "env_steps_per_s": env_steps / (time.perf_counter() - started),
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "devices": jax.local_device_count(),
        "with": ", ".join(f"{package} {version(package)}" for package in ("jax", "gymnax")),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
