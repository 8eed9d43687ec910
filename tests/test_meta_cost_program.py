"""What a meta-iteration takes, measured: the compiler's analysis, and the clock."""

from __future__ import annotations

import time
from types import SimpleNamespace

from loptrl.meta.cost import CostProgram


class Toy:
    """A meta-training of which nothing is compiled."""

    env_steps_per_slice = 7

    def __init__(self):
        self.done = 0

    def compiled(self):
        kinds = {"temp": 100, "argument": 10, "output": 20, "alias": 5}
        sizes = SimpleNamespace(**{f"{n}_size_in_bytes": v for n, v in kinds.items()})
        return SimpleNamespace(memory_analysis=lambda: sizes)

    def init(self):
        return SimpleNamespace(iteration=0)

    def advance(self, state):
        self.done += 1
        time.sleep(0.01)
        after = SimpleNamespace(iteration=state.iteration + 1)
        return after, [{"env_steps": 7 * after.iteration, "skipped": 0}]


def test_meta_iterations_that_are_timed():
    program = CostProgram(Toy(), 2)
    state, rows = program.init(), []
    for _ in range(program.num_slices):
        state, new = program.advance(state)
        rows += new
    assert [row["env_steps"] for row in rows] == [7, 14, 21]
    assert [row.get("compiled_bytes") for row in rows] == [125, None, None]
    assert all(row["seconds"] >= 0.01 and row["process_bytes"] > 0 for row in rows[1:])


def test_compilation_after_a_resumption_is_not_timed():
    state, _ = CostProgram(Toy(), 2).advance(Toy().init())
    resumed = CostProgram(Toy(), 2)
    state, (compiles,) = resumed.advance(state)
    _, (timed,) = resumed.advance(state)
    assert set(compiles) == {"env_steps", "skipped"} and {"seconds", "process_bytes"} < set(timed)


def test_what_does_not_fit_is_only_compiled():
    toy = Toy()
    program = CostProgram(toy, 0)
    _, rows = program.advance(program.init())
    assert rows == [{"env_steps": 1, "compiled_bytes": 125}] and toy.done == 0
    assert (program.num_slices, program.env_steps_per_slice) == (1, 1)
