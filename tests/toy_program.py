"""A small deterministic program for the driver's tests, and a process that runs it.

Its state is chaotic: a last bit that differs after a resume is a large difference some slices on.

    python toy_program.py ROOT SCRATCH --slices 200 [--seed 0] [--journal FILE] ...
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from loptrl.drive import load_or_run
from loptrl.errors import LoptrlError
from loptrl.keys import derive, root_key
from loptrl.runs import RunSpec, Store


class ToyState(NamedTuple):
    """x in (0, 1), and one leaf of every kind that does not come back from a file by itself."""

    key: jax.Array  # typed key []
    x: jax.Array  # float32 [8]
    half: jax.Array  # bfloat16 [2]
    count: jax.Array  # int32 []
    gain: jax.Array  # float32 [], weakly typed
    host: np.ndarray  # int64 [3], of the host
    empty: jax.Array  # float32 [0, 2]


@jax.jit
def _slice(state: ToyState) -> tuple[ToyState, dict[str, jax.Array]]:
    key = derive(state.key, "slice")
    noise = jax.random.uniform(derive(key, "noise"), (8,), minval=3.7, maxval=3.99)
    x = state.gain * noise * state.x * (1.0 - state.x)
    half = jnp.where(x[:2] > 0.5, 1.0, 0.5).astype(jnp.bfloat16) * state.half
    new = state._replace(key=key, x=x, half=half / half.max(), count=state.count + 1)
    return new, {"x_mean": x.mean(), "x_first": x[0], "noise": noise.sum()}


class Toy:
    """``advance`` is one logistic-map step with random growth rates."""

    def __init__(
        self,
        spec: RunSpec,
        *,
        sleep_s: float = 0.0,
        journal: Path | None = None,
    ) -> None:
        self.spec = spec
        self.num_slices = spec.config["slices"]
        self.env_steps_per_slice = spec.config.get("per_slice", 10)
        self.diverge_at = spec.config.get("diverge_at")
        self.sleep_s = sleep_s
        self.journal = journal

    def init(self) -> ToyState:
        key = root_key(self.spec.seed)
        return ToyState(
            key=derive(key, "program"),
            x=jax.random.uniform(derive(key, "x"), (8,), minval=0.1, maxval=0.9),
            half=jnp.ones(2, jnp.bfloat16),
            count=jnp.asarray(0, jnp.int32),
            gain=jnp.asarray(1.0),
            host=np.arange(3),
            empty=jnp.zeros((0, 2)),
        )

    def advance(self, state: ToyState) -> tuple[ToyState, list[dict[str, Any]]]:
        new, metrics = _slice(state)
        count = int(new.count)
        if self.journal is not None:
            with self.journal.open("a", encoding="utf-8") as file:
                file.write(f"{self.spec.key} {count} {os.getpid()}\n")
        time.sleep(self.sleep_s)
        row: dict[str, Any] = {"env_steps": count * self.env_steps_per_slice, **metrics}
        row["rare"] = count if count % 2 else float("nan")
        if self.diverge_at is not None and count >= self.diverge_at:
            row |= {"x_mean": float("nan"), "diverged": True}
        return new, [row]


def toy_spec(slices: int = 6, seed: int = 0, arm: str = "plain", **config: Any) -> RunSpec:
    """A run of the toy."""
    return RunSpec("toy", arm, "smoke", 1, seed, {"slices": slices, **config})


class Counted:
    """make_program that counts the programs and the slices, and can interfere after a slice."""

    def __init__(self, after=lambda slices: None) -> None:
        self.programs = 0
        self.slices: list[int] = []
        self.after = after

    def __call__(self, spec: RunSpec) -> Toy:
        outer = self
        outer.programs += 1

        class Watched(Toy):
            def advance(self, state):
                result = super().advance(state)
                outer.slices.append(int(result[0].count))
                outer.after(len(outer.slices))
                return result

        return Watched(spec)


def main(arguments: list[str]) -> int:
    """Run the toy as a user's process would be run; the exit status is the command line's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--every", type=float, default=0.02)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--ready", type=Path, help="made when the first slice is about to start")
    parser.add_argument("--time-limit")
    options = parser.parse_args(arguments)

    class Announcing(Toy):
        def advance(self, state: ToyState) -> tuple[ToyState, list[dict[str, Any]]]:
            result = super().advance(state)
            if options.ready is not None:
                options.ready.touch()
            return result

    try:
        load_or_run(
            [toy_spec(options.slices, seed) for seed in range(options.seeds)],
            lambda spec: Announcing(spec, sleep_s=options.sleep, journal=options.journal),
            store=Store(options.root, options.scratch),
            checkpoint_every_s=options.every,
            time_limit=options.time_limit,
        )
    except LoptrlError as error:
        print(f"loptrl: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
