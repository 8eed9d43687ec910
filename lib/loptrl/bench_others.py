"""Throughput of other people's trainers and meta-training, in the Python of their checkouts.

`loptrl bench` hands this file to another interpreter, whose current folder is the checkout: it
imports nothing of this library, and theirs only where it is used.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
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


def meta(seconds: float) -> float:
    """Env steps per second of Optim4RL's meta-training as in sail-sg/optim4rl, with one agent.

    The sizes are the published ones of the Ant at a sixteenth of the environments, and batches to
    match: 2048 of them take more memory than most machines have. The first two meta-iterations
    compile, the second since its state lies on the device in another way.
    """
    from agents.MetaPPO import MetaPPO

    environments, batch, unroll, minibatches, inner = 128, 64, 5, 8, 4
    inner_steps = batch * unroll * minibatches * inner
    # About 1,000 env steps/s on two cores.
    iterations = 2 + max(2, round(seconds * 1_000 / inner_steps))
    ends: list[float] = []

    def note(line: str) -> None:
        if "Iteration" in line:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        trainer = MetaPPO(
            {
                "config_idx": 1,
                "logs_dir": f"{folder}/",
                "env": {
                    "name": "ant",
                    "train_steps": iterations * inner_steps,
                    "episode_length": 1000,
                    "action_repeat": 1,
                    "reward_scaling": 10,
                    "num_envs": environments,
                    "normalize_obs": True,
                },
                "agent": {
                    "name": "MetaPPO",
                    "inner_updates": inner,
                    "gae_lambda": 0.95,
                    "rollout_steps": unroll,
                    "num_minibatches": minibatches,
                    "clipping_epsilon": 0.3,
                    "update_epochs": 4,
                    "entropy_weight": 1e-2,
                    "reset_interval": 128,
                },
                "agent_optim": {
                    "name": "Optim4RL",
                    "kwargs": {"learning_rate": 3e-4, "grad_clip": 1},
                },
                "meta_optim": {
                    "name": "Adam",
                    "kwargs": {"learning_rate": 3e-5, "grad_clip": 1.0},
                },
                "display_interval": 1,
                "batch_size": batch,
                "discount": 0.97,
                "max_devices_per_host": 1,
                "seed": 1,
            }
        )
        trainer.logger.info = note
        trainer.train()
    if len(ends) < iterations:
        raise RuntimeError(f"it ended after {len(ends)} of {iterations} meta-iterations")
    # They count the env steps of the inner updates; the meta-loss plays `unroll` more.
    return (iterations - 2) * (inner_steps + environments * unroll) / (ends[-1] - ends[1])


def training(name: str, seconds: float) -> float:
    """Env steps per second of the second of two trainings on Breakout; the first one compiles."""
    import jax

    env_steps = _ENVS * _STEPS * max(3, round(seconds * 15_000 / (_ENVS * _STEPS)))
    train = purejaxrl(env_steps) if name == "purejaxrl" else open_rule("multi" in name, env_steps)
    jax.block_until_ready(train(jax.random.PRNGKey(0)))
    started = time.perf_counter()
    jax.block_until_ready(train(jax.random.PRNGKey(1)))
    return env_steps / (time.perf_counter() - started)


def main(name: str, seconds: float) -> None:
    """Print one of `bench_ratios.THEIRS`, measured: its rate, memory, devices and packages."""
    import jax

    rate = meta(seconds) if name == "optim4rl:meta" else training(name, seconds)
    world = "brax" if name == "optim4rl:meta" else "gymnax"
    found = {
        "env_steps_per_s": rate,
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "devices": jax.local_device_count(),
        "packages": " and ".join(f"{package} {version(package)}" for package in ("jax", world)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
