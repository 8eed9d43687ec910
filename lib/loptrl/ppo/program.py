"""A PPO run as a program in slices: what `loptrl.drive` drives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from loptrl.keys import root_key
from loptrl.ppo.agent import Agent
from loptrl.ppo.config import PPOConfig
from loptrl.ppo.learner import TrainState
from loptrl.ppo.structure import HParams

__all__ = ["PPOGroup", "PPOProgram"]


class PPOProgram:
    """One run of an agent: slices of training, each closed by an evaluation row.

    The row at 0 env steps is played by the untrained policy with sampled actions: the return of
    a random policy. All others use the policy's mode, and the dynamics of the last iteration.

    Args:
        config: the run's numbers.
        seed: seeds everything but the drift, which comes seeded.
        agent: compiled for the configuration's structure.
        drift_table: env steps `[k]` to dynamics with a leading axis k.
        hyperparameters: puts the optimizer's numbers into its fresh state.
    """

    def __init__(
        self,
        config: PPOConfig,
        seed: int,
        agent: Agent,
        drift_table: Callable[[np.ndarray], Any],
        hyperparameters: Callable[[Any], Any] = lambda state: state,
    ) -> None:
        self.config, self.seed, self.agent = config, seed, agent
        self.num_slices = config.num_slices
        self.env_steps_per_slice = config.env_steps_per_slice
        self._drift_table = drift_table
        self._hyperparameters = hyperparameters
        self.hparams = HParams.of(config)

    def dynamics(self, iteration: int) -> Any:
        """Dynamics of the slice that begins with that iteration, each at its first env step."""
        iterations = iteration + np.arange(self.config.iterations_per_slice)
        return self._drift_table(iterations * self.config.batch_size)

    def dynamics_at(self, iteration: int) -> Any:
        """Dynamics of one iteration."""
        table = self._drift_table(np.array([iteration * self.config.batch_size]))
        return jax.tree.map(lambda x: x[0], table)

    def init(self) -> TrainState:
        """The state before the first update."""
        state = self.agent.start(root_key(self.seed), self.dynamics_at(0))
        state = state._replace(opt_state=self._hyperparameters(state.opt_state))
        return jax.device_put(state, self.agent.shardings)

    def advance(self, state: TrainState) -> tuple[TrainState, list[dict[str, float]]]:
        """One slice, and its row (two for the first slice: before and after)."""
        rows = []
        if int(state.iteration) == 0:
            rows.append(self._row(state, self.dynamics_at(0), {}, greedy=False))
        state, metrics = self.train(state)
        now = self.dynamics_at(int(state.iteration) - 1)
        rows.append(self._row(state, now, metrics, greedy=True))
        return state, rows

    def train(self, state: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The training half of a slice: the next state and the metrics of its updates."""
        return self.agent.slice(state, self.dynamics(int(state.iteration)), self.hparams)

    def beside(self, others: Sequence[PPOProgram]) -> PPOGroup:
        """This run and others that differ in their seeds only, as one program."""
        return PPOGroup([self, *others])

    def _row(
        self, state: TrainState, dynamics: Any, metrics: dict[str, Any], *, greedy: bool
    ) -> dict[str, float]:
        evaluation = self.agent.evaluate(state.evaluated(), dynamics, jnp.bool_(greedy))
        return self.row(int(state.iteration), dynamics, metrics | evaluation)

    def row(self, iteration: int, dynamics: Any, figures: dict[str, Any]) -> dict[str, float]:
        """A row from the scalars of an evaluation, and of the slice before it where there is one.

        Args:
            iteration: iterations done.
            dynamics: those of the evaluation.
            figures: by name.
        """
        row: dict[str, float] = {
            "env_steps": iteration * self.config.batch_size,
            "updates": iteration * self.config.epochs * self.config.minibatches,
        }
        values = {**_NO_UPDATES, **figures}
        row |= {name: float(values[name]) for name in sorted(values) if name not in _SUMS}
        row["dynamics_friction"] = float(dynamics.friction)
        row["dynamics_actuator_strength"] = float(np.mean(dynamics.strength))
        row["dynamics_damping"] = float(dynamics.damping)
        row["dynamics_fault"] = float(np.any(np.asarray(dynamics.strength) == 0.0))
        row["diverged"] = not np.isfinite(row["weight_norm"])
        return row


class PPOGroup:
    """Runs that differ in their seeds only, as one program: each `PPOProgram` under `jax.vmap`.

    Each has its own keys, drift and numbers, so what it computes is what it would alone, up to the
    order of floating-point sums.

    An accelerator takes about as long for an episode of one policy as for those of hundreds, and
    the steps of an evaluation come one after another: on a body ten times as many as those of the
    rollouts between two of them. There the evaluations of several slices are played as one batch,
    and those slices count as one slice of this program.

    Args:
        programs: of the runs, with one agent and one configuration.
        evaluations: at most how many slices are evaluated at once, >= 1 (the largest divisor of
            their number is taken); None for 1 on CPUs, 16 elsewhere.
    """

    def __init__(self, programs: Sequence[PPOProgram], evaluations: int | None = None) -> None:
        first = programs[0]
        self._programs = list(programs)
        if evaluations is None:
            evaluations = 1 if jax.default_backend() == "cpu" else 16
        self._at_once = max(n for n in range(1, evaluations + 1) if first.num_slices % n == 0)
        self.num_slices = first.num_slices // self._at_once
        self.env_steps_per_slice = first.env_steps_per_slice * self._at_once
        train = jax.vmap(first.agent.slice, (0, 0, None))

        def slices(state: TrainState, dynamics: Any, hparams: HParams) -> tuple[TrainState, Any]:
            def one(state: TrainState, now: Any) -> tuple[TrainState, Any]:
                state, metrics = train(state, now, hparams)
                return state, (state.evaluated(), metrics)

            return jax.lax.scan(one, state, dynamics)

        self._slices = jax.jit(slices, donate_argnums=0)
        self._evaluate = jax.jit(
            jax.vmap(jax.vmap(first.agent.evaluate, (0, 0, None)), (0, 0, None))
        )

    def init(self) -> TrainState:
        """The states of all runs, stacked."""
        return _stacked([program.init() for program in self._programs])

    def advance(self, state: TrainState) -> tuple[TrainState, list[list[dict[str, float]]]]:
        """The slices that are evaluated at once, and the rows of each run."""
        rows: list[list[dict[str, float]]] = [[] for _ in self._programs]
        begun, each = int(state.iteration[0]), self._programs[0].config.iterations_per_slice
        slices = range(self._at_once)
        if begun == 0:
            # As often as slices are evaluated at once, so that one program serves for both.
            untrained = _stacked([state.evaluated() for _ in slices])
            self._add_rows(rows, [0], [0 for _ in slices], untrained, {}, greedy=False)
        starts = [begun + each * i for i in slices]
        dynamics = _stacked([_stacked([p.dynamics(at) for p in self._programs]) for at in starts])
        state, (seen, metrics) = self._slices(state, dynamics, self._programs[0].hparams)
        ends = [at + each for at in starts]
        self._add_rows(rows, ends, [at - 1 for at in ends], seen, metrics, greedy=True)
        return state, rows

    def _add_rows(
        self,
        rows: list[list[dict[str, float]]],
        iterations: Sequence[int],
        lasts: Sequence[int],
        seen: TrainState,
        metrics: dict[str, Any],
        *,
        greedy: bool,
    ) -> None:
        """Evaluate states `[slices, runs, ...]`, and give each run its rows of these iterations."""
        dynamics = [[program.dynamics_at(last) for program in self._programs] for last in lasts]
        evaluation = self._evaluate(
            seen, _stacked([_stacked(of_all) for of_all in dynamics]), jnp.bool_(greedy)
        )
        figures = jax.device_get(metrics | evaluation)
        for i, iteration in enumerate(iterations):
            for j, (program, own) in enumerate(zip(self._programs, rows, strict=True)):
                one = {name: value[i, j] for name, value in figures.items()}
                own.append(program.row(iteration, dynamics[i][j], one))


def _stacked(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


_SUMS = frozenset({"episodes", "finished_return", "finished_length"})
_NO_UPDATES = dict.fromkeys(
    (
        "train_return", "train_episode_length", "last_return", "largest_update", "update_norm",
        "update_norm_max", "grad_norm", "grad_norm_max", "approx_kl", "clip_fraction",
        "entropy", "value_error",
    ),
    float("nan"),
)  # fmt: skip
