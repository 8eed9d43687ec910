"""The driver: resuming, computing what is missing, divergence, mistakes, full disks."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time

import numpy as np
import pytest

from faults import FaultyOs
from loptrl import files, provenance
from loptrl.drive import load_or_run
from loptrl.errors import DamagedRun, LoptrlError, MissingRun, Stopped, StoreError
from loptrl.runs import RunSpec, Store
from store_files import content, files_of
from toy_program import Counted, Toy, toy_spec

# --- resuming, in this process -----------------------------------------------------------------


def stop_after(slices: int):
    """A program that is stopped by SIGTERM after some slices."""
    return Counted(lambda n: os.kill(os.getpid(), signal.SIGTERM) if n == slices else None)


def test_wall_time_and_memory_add_up_over_resumes(store, monkeypatch):
    spec = toy_spec(6)
    peaks = iter([100, 900, 300])
    monkeypatch.setattr(provenance, "peak_memory_bytes", lambda: peak[0])
    walls = []
    for stop in (2, 2, None):
        peak = [next(peaks)]
        program = Counted() if stop is None else stop_after(stop)
        slow = program.after
        program.after = lambda n, slow=slow: (time.sleep(0.05), slow(n))
        if stop is None:
            manifest = load_or_run([spec], program, store=store, progress=False).runs[0].manifest
        else:
            with pytest.raises(Stopped):
                load_or_run([spec], program, store=store, progress=False)
            meta = next(store.checkpoint_dir(spec).rglob("meta.json"))
            newest = max(store.checkpoint_dir(spec).rglob("meta.json"), default=meta)
            walls.append(json.loads(newest.read_text())["meta"]["wall_time_s"])
    assert walls[0] >= 0.1 and walls[0] + 0.1 <= walls[1]
    assert walls[1] + 0.1 <= manifest["wall_time_s"]
    assert manifest["peak_memory_bytes"] == 900
    assert manifest["resumed"] == 2
    assert manifest["env_steps"] == manifest["planned_env_steps"] == 60
    speed = manifest["env_steps"] / manifest["wall_time_s"]
    assert manifest["env_steps_per_s"] == pytest.approx(speed, rel=0.01)


def test_a_manifest_says_how_it_was_made(store):
    manifest = load_or_run([toy_spec(2)], Toy, store=store, progress=False).runs[0].manifest
    assert manifest["versions"]["jax"] and manifest["versions"]["python"]
    assert manifest["device"].split()[2] == "cpu"
    assert 2**20 < manifest["peak_memory_bytes"] < 2**36
    assert manifest["created"].endswith("+00:00")
    assert manifest["commit"] is None or len(manifest["commit"].removesuffix("-dirty")) == 40
    assert manifest["diverged_at"] is None and manifest["resumed"] == 0


def test_every_slice_checkpointed_gives_the_same_bytes(store, tmp_path):
    other = Store(tmp_path / "other", tmp_path / "scratch")
    spec = toy_spec(5)
    load_or_run([spec], Toy, store=store, progress=False)
    load_or_run([spec], Toy, store=other, progress=False, checkpoint_every_s=0)
    assert content(store, spec) == content(other, spec)


def test_a_time_limit_keeps_a_checkpoint_and_the_next_call_goes_on(store):
    spec, first = toy_spec(6), Counted(lambda n: time.sleep(0.3))
    with pytest.raises(Stopped, match="by the time limit after 0 of 2 runs") as caught:
        load_or_run([spec, toy_spec(6, 1)], first, store=store, time_limit=0.2, progress=False)
    assert caught.value.exit_code == 124 and caught.value.reason == "time limit"
    assert first.slices == [1] and store.state(spec) == "partial"
    second = Counted()
    load_or_run([spec], second, store=store, progress=False)
    assert second.slices == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_are_noted_and_given_back(store, capsys, number, status):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    program = Counted(lambda n: os.kill(os.getpid(), number) if n == 2 else None)
    name = signal.Signals(number).name
    with pytest.raises(
        Stopped, match=f"by {name} after 20 of 60 env steps of toy/plain seed 0"
    ) as caught:
        load_or_run([toy_spec(6)], program, store=store, progress=False)
    assert caught.value.exit_code == status and caught.value.reason == name
    assert f"loptrl: {name}: finishing this slice" in capsys.readouterr().err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_interrupt_acts_at_once(store):
    def twice(slices: int) -> None:
        if slices == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    # A process that a shell started in the background ignores interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            load_or_run([toy_spec(6)], Counted(twice), store=store, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    assert files_of(store.root) == [] and not store.is_locked(toy_spec(6))


def test_outside_the_main_thread(store):
    errors = []

    def work() -> None:
        try:
            load_or_run([toy_spec(2)], Toy, store=store, progress=False)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == [] and store.state(toy_spec(2)) == "done"


def test_another_version_starts_from_zero_and_says_so(store, monkeypatch, capsys):
    spec = toy_spec(5)
    with pytest.raises(Stopped):
        load_or_run([spec], stop_after(3), store=store, progress=False)
    real = provenance.versions()
    monkeypatch.setattr(provenance, "versions", lambda: {**real, "jax": "0.0.1"})
    capsys.readouterr()
    newer = stop_after(1)
    with pytest.raises(Stopped):
        load_or_run([spec], newer, store=store, progress=False)
    assert newer.slices == [1]
    said = capsys.readouterr().err
    assert "made with other versions of jax" in said and "starts from zero" in said
    # Back under the old version, the old checkpoint is still there.
    monkeypatch.undo()
    older = Counted()
    load_or_run([spec], older, store=store, progress=False)
    assert older.slices == [4, 5]
    assert not store.checkpoint_dir(spec).exists()


def test_other_code_goes_on_and_says_so(store, monkeypatch, capsys):
    spec, told = toy_spec(8), []
    # The same code, another, and one that nobody knows, before it and after it.
    for commit in ("aaa", "aaa", "bbb", None, "ccc"):
        monkeypatch.setattr(provenance, "commit", lambda commit=commit: commit)
        with pytest.raises(Stopped):
            load_or_run([spec], stop_after(1), store=store, progress=False)
        told.append("goes on from a checkpoint" in (said := capsys.readouterr().err))
        if told[-1]:
            assert "that the code of commit aaa made; this is bbb." in said
    assert told == [False, False, True, False, False]
    (run,) = load_or_run([spec], Counted(), store=store, progress=False).runs
    assert run.manifest["commit"] == "ccc" and run.manifest["resumed"] == 5


def test_another_runs_checkpoint_is_not_taken(store, capsys):
    for spec in (toy_spec(5), toy_spec(5, seed=1)):
        with pytest.raises(Stopped):
            load_or_run([spec], stop_after(3), store=store, progress=False)
    theirs = next(store.checkpoint_dir(toy_spec(5, seed=1)).glob("*/step-*"))
    mine = next(store.checkpoint_dir(toy_spec(5)).glob("*/step-*"))
    files.remove_folder(mine)
    theirs.rename(mine)
    program = Counted()
    load_or_run([toy_spec(5)], program, store=store, progress=False)
    assert program.slices == [1, 2, 3, 4, 5]
    assert f"it belongs to {toy_spec(5, seed=1).key}" in capsys.readouterr().err


def test_a_damaged_checkpoint_costs_one_checkpoint(store, capsys):
    spec = toy_spec(6)
    with pytest.raises(Stopped):
        load_or_run([spec], stop_after(4), store=store, progress=False, checkpoint_every_s=0)
    newest = max(store.checkpoint_dir(spec).glob("*/step-*"))
    (newest / "rows.json").write_text("[]")
    program = Counted()
    load_or_run([spec], program, store=store, progress=False)
    assert program.slices == [4, 5, 6]
    assert "rows.json is damaged" in capsys.readouterr().err
    whole = Store(store.root.parent / "whole", store.scratch)
    load_or_run([spec], Toy, store=whole, progress=False)
    assert content(store, spec) == content(whole, spec)


# --- which runs are computed -------------------------------------------------------------------


def test_compute_modes(store):
    specs = [toy_spec(3, seed) for seed in range(2)]
    program = Counted()
    with pytest.raises(MissingRun) as caught:
        load_or_run(specs, program, compute="never", store=store)
    assert str(caught.value) == (
        f"Expected stored runs, 2 of 2 are missing, the first is toy/plain seed 0 "
        f'({specs[0].key}); compute="missing" computes them.'
    )
    assert program.programs == 0 and not store.root.exists() and not store.scratch.exists()
    results = load_or_run(specs, program, store=store, progress=False)
    assert program.programs == 2
    assert results.curve("plain", "x_mean")[1].shape == (2, 3)
    load_or_run(specs, program, store=store, progress=False)
    load_or_run(specs[::-1], None, compute="never", store=store)
    assert program.programs == 2
    load_or_run(specs, program, compute="always", store=store, progress=False)
    assert program.programs == 4
    with pytest.raises(MissingRun, match=r"1 of 3 .*`make it` computes them"):
        load_or_run([*specs, toy_spec(9)], None, compute="never", store=store, command="make it")


def test_order_is_as_asked_for(store):
    specs = [toy_spec(2, 1, "b"), toy_spec(2, 0, "a"), toy_spec(2, 2, "b")]
    load_or_run([specs[2]], Toy, store=store, progress=False)
    results = load_or_run(specs, Toy, store=store, progress=False)
    assert [r.spec for r in results.runs] == specs
    assert results.arms == ["b", "a"]


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_a_damaged_run_is_refused_or_computed_again(store, capsys, suffix):
    spec = toy_spec(3)
    load_or_run([spec], Toy, store=store, progress=False)
    good = content(store, spec)
    path = store.path(spec).with_suffix(suffix)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(DamagedRun, match=str(path)):
        load_or_run([spec], Toy, compute="never", store=store)
    program = Counted()
    load_or_run([spec], program, store=store, progress=False)
    assert program.programs == 1 and content(store, spec) == good
    said = capsys.readouterr().err
    assert str(path) in said and said.count("it is computed again") == 1


def test_waiting_for_another_process_ends_with_the_time_limit(store, capsys):
    spec = toy_spec(3)
    with store.lock(spec), pytest.raises(Stopped, match="0 of 1 runs"):
        load_or_run([spec], Toy, store=store, time_limit=0.4, progress=False)
    assert capsys.readouterr().err.count("Another process is computing") == 1


def test_work_goes_on_beside_a_run_that_another_process_computes(store):
    mine, theirs = toy_spec(2, 1), toy_spec(2, 0)
    order = []
    holder = store.lock(theirs)
    holder.__enter__()

    def make(spec: RunSpec) -> Toy:
        order.append(spec.seed)
        if spec == mine:
            holder.__exit__(None, None, None)
        return Toy(spec)

    load_or_run([theirs, mine], make, store=store, progress=False)
    assert order == [1, 0]


# --- divergence, mistakes, full disks ----------------------------------------------------------


def test_divergence_is_a_result(store):
    spec = toy_spec(9, diverge_at=4)
    program = Counted()
    done = load_or_run([spec], program, store=store, progress=False).runs[0]
    assert program.slices == [1, 2, 3, 4]
    assert done.diverged_at == 40 and done.manifest["env_steps"] == 40
    assert done.manifest["planned_env_steps"] == 90
    assert math.isnan(done.frame["x_mean"].iloc[-1]) and done.frame["env_steps"].iloc[-1] == 40
    healthy = load_or_run([toy_spec(9)], Toy, store=store, progress=False).runs[0]
    assert list(done.frame.columns) == list(healthy.frame.columns)
    load_or_run([spec], None, compute="never", store=store)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"r": 1.0}], "with env_steps from toy/plain seed 0"),
        ([{"env_steps": 1, "r": "high"}], "rows of numbers"),
        ([{"env_steps": 1, "r": np.ones(2)}], "rows of numbers"),
        ([{"env_steps": 1}, {"env_steps": 1}], "increase in toy/plain seed 0, got 1 after 1"),
        ([{"env_steps": math.nan}], "got nan after -1"),
        ([], "there is not one row"),
    ],
)
def test_programs_that_break_the_contract(store, rows, text):
    class Bad(Toy):
        def advance(self, state):
            return state, rows

    with pytest.raises(LoptrlError, match=text):
        load_or_run([toy_spec(1)], Bad, store=store, progress=False)
    assert files_of(store.root) == []
    assert not store.is_locked(toy_spec(1))


def test_a_crash_keeps_the_last_checkpoint(store):
    def crash(slices: int) -> None:
        if slices == 3:
            raise MemoryError("out of memory")

    with pytest.raises(MemoryError):
        make = Counted(crash)
        load_or_run([toy_spec(5)], make, store=store, progress=False, checkpoint_every_s=0)
    again = Counted()
    load_or_run([toy_spec(5)], again, store=store, progress=False)
    assert again.slices == [3, 4, 5]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"compute": "sometimes"}, "compute as 'missing', 'never' or 'always', got 'sometimes'"),
        ({"specs": []}, "at least one run, got none"),
        ({"specs": [toy_spec(), toy_spec(arm="other")]}, "every run once"),
        ({"time_limit": "soon"}, "time limit such as 90s, 30m, 2h or 1h30m, got 'soon'"),
        ({"progress": "loud"}, "progress as true, false or 'auto', got 'loud'"),
        ({"checkpoint_every_s": -1}, "checkpoint_every_s >= 0, got -1"),
        ({"checkpoint_every_s": math.nan}, "got nan"),
        ({"specs": [toy_spec(0)]}, "num_slices >= 1, got 0"),
        ({"specs": [toy_spec(2, per_slice=2.5)]}, "env_steps_per_slice >= 1, got 2.5"),
    ],
)
def test_mistakes_of_the_caller(store, change, text):
    arguments = {"specs": [toy_spec()], "make_program": Toy, "store": store, **change}
    with pytest.raises(LoptrlError, match=text) as caught:
        load_or_run(**arguments)
    assert "\n" not in str(caught.value) and files_of(store.root) == []


def test_an_unwritable_store_costs_no_work(tmp_path):
    (tmp_path / "file").touch()
    program = Counted()
    with pytest.raises(StoreError, match="Could not write"):
        load_or_run([toy_spec()], program, store=Store(tmp_path / "file", tmp_path / "scratch"))
    assert program.programs == 0


def test_a_full_disk_at_a_checkpoint(store, monkeypatch):
    def fill(slices: int) -> None:
        if slices == 3:
            monkeypatch.setattr(files, "os", FaultyOs("fsync"))

    with pytest.raises(StoreError, match="No space left on device; free some space"):
        make = Counted(fill)
        load_or_run([toy_spec(6)], make, store=store, progress=False, checkpoint_every_s=0)
    monkeypatch.undo()
    assert files_of(store.root) == [] and store.state(toy_spec(6)) == "partial"
    again = Counted()
    load_or_run([toy_spec(6)], again, store=store, progress=False)
    assert again.slices == [3, 4, 5, 6]


def test_a_full_disk_at_the_very_end_loses_no_work(store, monkeypatch):
    spec = toy_spec(4)

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("loptrl.runs.Staged.commit", lambda self: full(None, None))
    with pytest.raises(StoreError, match="No space left on device"):
        load_or_run([spec], Toy, store=store, progress=False)
    monkeypatch.undo()
    assert files_of(store.root) == [] and store.state(spec) == "partial"
    again = Counted()
    assert len(load_or_run([spec], again, store=store, progress=False).runs[0].frame) == 4
    assert again.slices == []


def test_the_toy_holds_what_files_do_not_keep():
    """Host arrays, weak types and empty arrays: without them the tests above would prove less."""
    state = Toy(toy_spec()).init()
    assert isinstance(state.host, np.ndarray) and state.host.dtype == np.int64
    assert state.gain.weak_type and state.empty.size == 0


def test_a_state_that_changes_its_form_is_found_at_once(store):
    class Growing(Toy):
        def advance(self, state):
            state, rows = super().advance(state)
            return state._replace(x=np.zeros(9, np.float32)), rows

    with pytest.raises(LoptrlError, match=r"\.x as float32\[8\] against \.x as float32\[9\]"):
        load_or_run([toy_spec(4)], Growing, store=store, progress=False)


def test_what_another_process_has_just_computed_is_not_computed_again(store):
    """Two that both compute everything: the second waits, and takes what the first has stored."""
    spec, second = toy_spec(5), Counted()
    options = {"compute": "always", "store": store, "progress": False}
    with store.lock(spec):
        thread = threading.Thread(target=load_or_run, args=([spec], second), kwargs=options)
        thread.start()
        time.sleep(0.1)
        other = Store(store.root, store.root.parent / "elsewhere")
        load_or_run([spec], Toy, store=other, progress=False)
    thread.join(20)
    assert second.slices == [] and not thread.is_alive()
