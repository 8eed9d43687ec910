"""Runs that are computed together: what is stored is what each gives alone."""

from __future__ import annotations

import os
import signal
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from loptrl import checkpoints
from loptrl.drive import load_or_run
from loptrl.errors import LoptrlError, Stopped, StoreError
from loptrl.ppo.config import PPOConfig
from loptrl.ppo.program import PPOGroup, PPOProgram
from loptrl.runs import Store
from loptrl.studies.base import Arm, Budget, Study
from loptrl.studies.training import make_program
from probe_runs import SMALL
from toy_program import Toy, toy_spec

DRIFT = {"friction": {"form": "Steps", "low": 0.5, "high": 2, "period": 128}}
STUDY = Study(
    name="tiny",
    title="A tiny study",
    version=1,
    base={**SMALL, "hidden": [4]},
    arms={
        "adam": Arm("adam", "Adam", "adam", {"optimizer": {"name": "adam"}}),
        "drift": Arm("drift", "Adam, drifting", "adam", {"drift": DRIFT}),
    },
    budgets={"smoke": Budget(128 * 4, 3)},
)


class Group:
    """Toys one after another, which is what several programs as one must look like."""

    def __init__(self, toys):
        self.toys = toys
        self.num_slices = toys[0].num_slices
        self.env_steps_per_slice = toys[0].env_steps_per_slice

    def init(self):
        return [toy.init() for toy in self.toys]

    def advance(self, states):
        pairs = [toy.advance(state) for toy, state in zip(self.toys, states, strict=True)]
        Social.slices += 1
        if Social.slices == Social.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return [state for state, _ in pairs], [rows for _, rows in pairs]


class Social(Toy):
    """A toy that can be computed beside others; the second seed diverges where one is to."""

    groups: ClassVar[list[list[int]]] = []
    slices = 0
    stop_after: int | None = None

    def __init__(self, spec):
        super().__init__(spec)
        if spec.seed != 1:
            self.diverge_at = None

    def beside(self, others):
        Social.groups.append([toy.spec.seed for toy in (self, *others)])
        return Group([self, *others])


@pytest.fixture(autouse=True)
def anew():
    Social.groups, Social.slices, Social.stop_after = [], 0, None


def stores(tmp_path) -> tuple[Store, Store]:
    return Store(tmp_path / "alone", tmp_path / "a"), Store(tmp_path / "together", tmp_path / "b")


def test_each_run_is_stored_as_it_is_alone(tmp_path):
    alone, both = stores(tmp_path)
    specs = [toy_spec(5, seed, diverge_at=3) for seed in range(3)]
    expected = load_or_run(specs, Social, store=alone, progress=False).runs
    found = load_or_run(specs, Social, store=both, progress=False, together=3).runs
    assert Social.groups == [[0, 1, 2]]
    for one, other in zip(expected, found, strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame)
        for name in ("env_steps", "planned_env_steps", "diverged_at", "resumed"):
            assert one.manifest[name] == other.manifest[name]
        assert (one.manifest["together"], other.manifest["together"]) == (1, 3)
    assert [run.manifest["diverged_at"] for run in found] == [None, 30, None]
    assert not any(both.checkpoint_dir(spec).exists() for spec in specs)


def test_groups_have_one_arm_and_a_largest_size(store):
    specs = [toy_spec(1, seed, arm, slower=arm == "b") for seed in range(3) for arm in ("a", "b")]
    load_or_run(specs[:2], Social, store=store, progress=False)
    load_or_run(specs, Social, store=store, progress=False, together=2)
    assert Social.groups == [[1, 2], [1, 2]], "what is stored is left out"
    load_or_run(specs, Social, store=store, progress=False, together=2, compute="always")
    assert Social.groups[2:] == [[0, 1], [0, 1]], "the third seed is alone"


def test_a_stopped_group_goes_on_to_the_same_numbers(tmp_path, capsys):
    whole, parted = stores(tmp_path)
    specs = [toy_spec(6, seed, diverge_at=2) for seed in range(3)]
    expected = load_or_run(specs, Social, store=whole, progress=False, together=3).runs
    Social.slices, Social.stop_after = 0, 4
    with pytest.raises(Stopped, match=r"seed 0, 1, 2; .* the same call goes"):
        load_or_run(specs, Social, store=parted, progress=False, together=3)
    found = load_or_run(specs, Social, store=parted, progress=False, together=3).runs
    assert Social.slices == 6 and not parted.checkpoint_dir(*specs).exists()
    for one, other in zip(expected, found, strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame)
        assert other.manifest["resumed"] == 1
        assert one.manifest["diverged_at"] == other.manifest["diverged_at"]


@pytest.fixture
def half_stored(store, monkeypatch):
    """Three runs whose program is over, of which the disk took the first only."""
    specs = [toy_spec(4, seed, diverge_at=2) for seed in range(3)]
    write = Store.write

    def full(self, spec, *rest):
        if spec.seed:
            raise StoreError("the disk is full")
        return write(self, spec, *rest)

    with monkeypatch.context() as patch, pytest.raises(StoreError):
        patch.setattr(Store, "write", full)
        load_or_run(specs, Social, store=store, progress=False, together=3)
    assert [store.state(spec) for spec in specs] == ["done", "partial", "partial"]
    Social.groups.clear()
    return specs


def test_a_group_that_was_stored_in_part_is_not_computed_again(store, half_stored, tmp_path):
    first = store.path(half_stored[0]).stat().st_mtime_ns
    made = load_or_run(half_stored, Social, store=store, progress=False, together=3).runs
    assert (Social.groups, Social.slices) == ([[0, 1, 2]], 4)
    assert store.path(half_stored[0]).stat().st_mtime_ns == first, "it is not stored again"
    assert [run.manifest["resumed"] for run in made] == [0, 1, 1]
    assert not store.checkpoint_dir(*half_stored).exists()
    alone = Store(tmp_path / "alone", tmp_path / "a")
    expected = load_or_run(half_stored, Social, store=alone, progress=False).runs
    for one, other in zip(expected, made, strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame)


def test_the_rest_of_a_group_is_computed_without_a_checkpoint_that_can_be_used(
    store, half_stored, capsys
):
    for damaged in store.checkpoint_dir(*half_stored).glob("*/step-*/rows.json"):
        damaged.write_bytes(b"")
    load_or_run(half_stored, Social, store=store, progress=False, together=3)
    assert "though a checkpoint holds it" not in capsys.readouterr().err
    assert Social.groups == [[0, 1, 2], [1, 2]] and Social.slices == 4 + 4
    assert not list(store.checkpoint_dir(*half_stored).parent.iterdir())


def test_more_runs_leave_a_group_that_was_begun(store):
    specs = [toy_spec(6, seed) for seed in range(4)]
    Social.stop_after = 3
    with pytest.raises(Stopped):
        load_or_run(specs[1:3], Social, store=store, progress=False, together=4)
    Social.groups.clear()
    runs = load_or_run(specs, Social, store=store, progress=False, together=3).runs
    assert Social.groups == [[0, 3], [1, 2]]
    assert [run.manifest["resumed"] for run in runs] == [0, 1, 1, 0]


def test_a_run_alone_leaves_the_checkpoint_of_its_group_and_says_so(store, capsys):
    specs = [toy_spec(6, seed) for seed in range(3)]
    Social.stop_after = 3
    with pytest.raises(Stopped):
        load_or_run(specs, Social, store=store, progress=False, together=3)
    assert [store.state(spec) for spec in specs] == ["partial"] * 3
    assert store.state(toy_spec(6, 3)) == "missing"
    (run,) = load_or_run(specs[:1], Social, store=store, progress=False).runs
    assert run.manifest["resumed"] == 0 and len(run.frame) == 6
    said = "seed 0 starts from zero, though a checkpoint holds it that was made with together=3,"
    assert said in capsys.readouterr().err
    assert list(store.checkpoint_dir(*specs).glob("*/step-*"))
    load_or_run(specs, Social, store=store, progress=False)
    assert not store.checkpoint_dir(*specs).exists(), "all its runs are stored"


def test_a_group_waits_for_a_run_that_another_process_computes(store):
    specs = [toy_spec(2, seed) for seed in range(3)]
    with store.lock(specs[1]), pytest.raises(Stopped, match="Stopped by the time limit"):
        load_or_run(specs, Social, store=store, progress=False, together=3, time_limit=0.6)
    assert Social.slices == 0
    load_or_run(specs[1:2], Social, store=store, progress=False)
    Social.groups.clear()
    load_or_run(specs, Social, store=store, progress=False, together=3)
    assert Social.groups == [[0, 2]]


def test_a_time_limit_stops_a_group_in_good_order(store):
    specs = [toy_spec(3, seed) for seed in range(2)]
    with pytest.raises(Stopped, match="Stopped by the time limit"):
        load_or_run(specs, Social, store=store, progress=False, together=2, time_limit=1e-6)
    runs = load_or_run(specs, Social, store=store, progress=False, together=2).runs
    assert [len(run.frame) for run in runs] == [3, 3]


def test_an_older_checkpoint_is_passed_over_in_words(store, capsys):
    spec = toy_spec(4)
    program = Social(spec)
    state = checkpoints.settle(program.init())
    folder = store.checkpoint_dir(spec) / checkpoints.fingerprint(checkpoints.device())
    checkpoints.save(folder, 1, state, [], {"key": spec.key})
    load_or_run([spec], Social, store=store, progress=False)
    assert "passed over: an earlier version of loptrl made it." in capsys.readouterr().err


def test_what_cannot_be_computed_together_says_so(store):
    specs = [toy_spec(2, seed) for seed in range(2)]
    with pytest.raises(LoptrlError, match="computed together, got those of toy; compute them"):
        load_or_run(specs, Toy, store=store, progress=False, together=2)
    for wrong in (0, 1.5, True):
        with pytest.raises(LoptrlError, match="Expected together as a whole number >= 1"):
            load_or_run(specs, Social, store=store, together=wrong)


@pytest.mark.parametrize("arm", ["adam", "drift"])
def test_agents_are_those_of_the_runs_alone(tmp_path, arm):
    """Keys, drift and numbers are each run's own; only the order of sums differs."""
    alone, both = stores(tmp_path)
    expected = STUDY.load_or_run("smoke", [arm], store=alone, progress=False).runs
    found = STUDY.load_or_run("smoke", [arm], store=both, progress=False, together=3).runs
    assert len(found) == 3
    for one, other in zip(expected, found, strict=True):
        assert one.spec.key == other.spec.key
        assert list(one.frame) == list(other.frame)
        np.testing.assert_allclose(one.frame, other.frame, rtol=1e-3, atol=1e-5)
    assert len({float(run.frame["weight_norm"].iloc[-1]) for run in found}) == 3
    frictions = {tuple(run.frame["dynamics_friction"]) for run in found}
    assert len(frictions) == (3 if arm == "drift" else 1)


@pytest.mark.parametrize(("asked", "taken"), [(3, 2), (16, 4)])
def test_evaluations_at_once_are_those_of_each_slice(asked, taken):
    """Fewer and longer slices, the same rows: each policy plays under the friction it had last."""
    specs = STUDY.specs("smoke", ["drift"], env_steps=1024, eval_every=256)
    programs = [make_program(spec) for spec in specs]
    rows = []
    for at_once in (1, asked):
        group = PPOGroup(programs, at_once)
        state, found = group.init(), [[] for _ in programs]
        for _ in range(group.num_slices):
            state, new = group.advance(state)
            for own, more in zip(found, new, strict=True):
                own += more
        assert group.num_slices * group.env_steps_per_slice == 1024
        rows.append([pd.DataFrame(own).astype(float) for own in found])
    assert group.num_slices == 4 // taken
    for one, other in zip(*rows, strict=True):
        assert list(one["env_steps"]) == [0, 256, 512, 768, 1024]
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
        assert one["dynamics_friction"].nunique() > 2


class TwoAtOnce(Social):
    """Its group makes two slices of the runs in one of its own."""

    def beside(self, others):
        class Longer(Group):
            def __init__(self, toys):
                super().__init__(toys)
                self.num_slices //= 2
                self.env_steps_per_slice *= 2

            def advance(self, states):
                states, first = super().advance(states)
                states, second = super().advance(states)
                return states, [[*a, *b] for a, b in zip(first, second, strict=True)]

        return Longer([self, *others])


def test_a_run_that_ends_within_a_slice_of_its_group_is_stored_up_to_there(tmp_path):
    alone, both = stores(tmp_path)
    specs = [toy_spec(6, seed, diverge_at=3) for seed in range(2)]
    expected = load_or_run(specs, Social, store=alone, progress=False).runs
    found = load_or_run(specs, TwoAtOnce, store=both, progress=False, together=2).runs
    for one, other in zip(expected, found, strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame)
    assert [run.manifest["env_steps"] for run in found] == [60, 30]
    assert [run.manifest["diverged_at"] for run in found] == [None, 30]


def test_a_checkpoint_of_other_slices_starts_anew_in_words(store, capsys):
    """As when evaluations were not played at once yet."""
    specs = [toy_spec(4, seed) for seed in range(2)]
    Social.stop_after = 1
    with pytest.raises(Stopped):
        load_or_run(specs, Social, store=store, progress=False, together=2)
    Social.slices, Social.stop_after = 0, None

    class Longer(Social):
        def __init__(self, spec):
            super().__init__(spec)
            self.env_steps_per_slice = 20

    runs = load_or_run(specs, Longer, store=store, together=2).runs
    assert "counts slices of other lengths; it starts from zero" in capsys.readouterr().err
    assert [run.manifest["resumed"] for run in runs] == [0, 0] and Social.slices == 4


def test_an_agent_that_becomes_nan_ends_alone(tmp_path, monkeypatch):
    """The others of its program go on to the same bits; it is stored up to where it ended."""
    whole, poisoned = stores(tmp_path)
    expected = STUDY.load_or_run("smoke", ["adam"], store=whole, progress=False, together=3).runs
    advance = PPOGroup.advance

    def poison(self, state):
        state, rows = advance(self, state)
        if rows[0][-1]["env_steps"] == 256:
            params = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), state.params)
            state = state._replace(params=params)
        return state, rows

    monkeypatch.setattr(PPOGroup, "advance", poison)
    found = STUDY.load_or_run("smoke", ["adam"], store=poisoned, progress=False, together=3).runs
    assert [run.manifest["diverged_at"] for run in found] == [None, 384, None]
    assert found[1].frame["env_steps"].iloc[-1] == 384
    for i in (0, 2):
        pd.testing.assert_frame_equal(expected[i].frame, found[i].frame)


def test_agents_together_resume_to_the_same_bits(tmp_path, monkeypatch):
    """Stacked states, keys among them, come back from a checkpoint as they went."""

    def beside(self, others):
        return PPOGroup([self, *others], evaluations=2)

    monkeypatch.setattr(PPOProgram, "beside", beside)
    whole, parted = stores(tmp_path)
    expected = STUDY.load_or_run("smoke", ["adam"], store=whole, progress=False, together=3).runs

    def stopped(spec, rows):
        if spec.seed == 2 and rows[-1]["env_steps"] == 256:
            os.kill(os.getpid(), signal.SIGTERM)

    specs = STUDY.specs("smoke", ["adam"])
    with pytest.raises(Stopped):
        load_or_run(specs, make_program, store=parted, progress=False, together=3, watch=stopped)
    found = load_or_run(specs, make_program, store=parted, progress=False, together=3).runs
    for one, other in zip(expected, found, strict=True):
        pd.testing.assert_frame_equal(one.frame, other.frame)
        assert other.manifest["resumed"] == 1


def test_programs_together_have_the_sizes_of_one():
    specs = STUDY.specs("smoke", ["adam"])
    first, *others = [make_program(spec) for spec in specs]
    program = first.beside(others)
    config = PPOConfig.from_dict(first.config.to_dict())
    assert program.num_slices == config.num_slices
    assert program.env_steps_per_slice == config.env_steps_per_slice
