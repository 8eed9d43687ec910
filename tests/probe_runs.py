"""Small PPO agents on probe environments, for the tests; also a process that computes one run.

python probe_runs.py ROOT SCRATCH [ant | meta]
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from loptrl import optimizers
from loptrl.drive import load_or_run
from loptrl.envs.drift import Drift
from loptrl.envs.probes import PROBES
from loptrl.envs.world import VectorWorld
from loptrl.errors import LoptrlError
from loptrl.meta.config import MetaConfig, Phase
from loptrl.ppo.agent import Agent
from loptrl.ppo.config import PPOConfig
from loptrl.ppo.program import PPOProgram
from loptrl.ppo.structure import Structure
from loptrl.runs import RunSpec, Store
from loptrl.studies.adam_collapse import STUDY
from loptrl.studies.meta_training import make_meta_program
from loptrl.studies.training import make_program

SMALL: dict[str, Any] = {
    "world": "probe_reach",
    "num_envs": 16,
    "rollout_length": 8,
    "epochs": 2,
    "minibatches": 2,
    "hidden": (8, 8),
    "eval_every": 128,
    "eval_envs": 4,
    "env_steps": 128 * 4,
}


def config(**settings: Any) -> PPOConfig:
    """A PPO configuration of a tiny agent."""
    return PPOConfig.from_dict({**SMALL, **settings})


def agent_for(
    config: PPOConfig, optimizer: optax.GradientTransformation | None = None, **kwargs: Any
) -> Agent:
    """An agent of its own, on a probe; Adam unless another optimizer is given."""
    world = VectorWorld(PROBES[config.world]())
    optimizer = optimizers.make("adam") if optimizer is None else optimizer
    return Agent(Structure.of(config), world, optimizer, **kwargs)


def program_for(config: PPOConfig, agent: Agent, seed: int = 0, **numbers: float) -> PPOProgram:
    """A run of that agent; `numbers` go into Adam's state when there are any."""
    drift = Drift.from_dict(config.drift, seed=seed)

    def table(env_steps):
        return drift.table(env_steps, agent.world.world.num_actuators)

    if not numbers:
        return PPOProgram(config, seed, agent, table)

    def put(state):
        return optimizers.with_hyperparameters(state, numbers)

    return PPOProgram(config, seed, agent, table, put)


def play(program: PPOProgram) -> tuple[Any, list[dict[str, float]]]:
    """The final state and all rows."""
    state, rows = program.init(), []
    for _ in range(program.num_slices):
        state, new = program.advance(state)
        rows += new
    return state, rows


_COMPILED: list[str] = []


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of the functions that XLA compiles while it is entered."""
    if not _COMPILED:
        _COMPILED.append("")  # the listener cannot be taken away again: one is enough

        def note(event: str, seconds: float, **facts: Any) -> None:
            if event == "/jax/core/compile/backend_compile_duration":
                _COMPILED.append(facts.get("fun_name", "?"))

        jax.monitoring.register_event_duration_secs_listener(note)
    start, found = len(_COMPILED), []
    yield found
    found += _COMPILED[start:]


def leaves(tree: Any) -> list[np.ndarray]:
    """All arrays of a pytree as numpy, keys as their data."""

    def unpack(x):
        return jax.random.key_data(x) if jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return [np.asarray(unpack(leaf)) for leaf in jax.tree.leaves(tree)]


def long_spec() -> RunSpec:
    """A run of many short slices, on a drift, for processes that are killed."""
    drift = {"friction": {"form": "Steps", "low": 0.5, "high": 2.0, "period": 1000}}
    settings = config(env_steps=128 * 500, drift=drift).to_dict()
    return RunSpec("probe", "plain", "smoke", 1, 3, settings)


def ant_spec() -> RunSpec:
    """Study 1's run of Adam on the changing Ant, at its smallest size."""
    return STUDY.specs("smoke", ["adam"], seeds=1)[0]


def meta_spec() -> RunSpec:
    """A meta-training of many short meta-iterations, whose agents start anew now and then."""
    own = {"rollout_length": 4, "minibatches": 2, "epochs": 1, "hidden": [3]}
    settings = MetaConfig(
        env_steps=200 * 2 * 4 * (4 + 3),
        agents=2,
        reset_interval=7,
        inner_updates=1,
        meta_rollout_length=3,
        meta_learning_rate=1e-3,
        num_envs=4,
        agent=own,
        phases=(Phase("probe_reach"),),
    )
    return RunSpec("meta", "optim4rl.probe", "smoke", 1, 3, settings.to_dict())


def main(arguments: list[str]) -> int:
    """Compute the long run, the Ant's or the meta-training, checkpoints in quick succession.

    The weights of the meta-training are kept as theta.npz beside the runs.
    """
    kind = arguments[2] if len(arguments) > 2 else "long"
    spec = {"long": long_spec, "ant": ant_spec, "meta": meta_spec}[kind]()
    store = Store(Path(arguments[0]), Path(arguments[1]))

    def keep(theta: Any, slices: int) -> None:
        optimizers.LEARNED["optim4rl"].save(store.root / "theta.npz", theta, slices=slices)

    def make(spec: RunSpec) -> Any:
        return make_meta_program(spec, keep) if kind == "meta" else make_program(spec)

    try:
        load_or_run([spec], make, store=store, checkpoint_every_s=0.05)
    except LoptrlError as error:
        print(f"loptrl: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
