"""The driver in real processes: killed, stopped, limited, asked for the same run twice."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loptrl.drive import load_or_run
from loptrl.runs import Store
from store_files import content, files_of
from toy_program import Counted, Toy, toy_spec

PROGRAM = Path(__file__).with_name("toy_program.py")


def start(store: Store, *options: object) -> subprocess.Popen:
    command = [sys.executable, "-W", "error", PROGRAM, store.root, store.scratch, *options]
    return subprocess.Popen([str(c) for c in command], stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.005)


SLICES = 300


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[bytes, dict]:
    """The toy run of 300 slices, computed in one go and without a checkpoint."""
    folder = tmp_path_factory.mktemp("whole")
    store = Store(folder / "results", folder / "scratch")
    done = load_or_run([toy_spec(SLICES)], Toy, store=store, progress=False)
    assert done.runs[0].frame["x_first"].nunique() > SLICES // 2, "the toy must not settle down"
    return content(store, toy_spec(SLICES)), done.runs[0].manifest


def test_killed_at_random_moments_and_resumed(store, library_path, uninterrupted, tmp_path):
    """kill -9, three times, at moments drawn anew in every session of tests."""
    spec, journal = toy_spec(SLICES), tmp_path / "journal"
    moments = random.Random()
    kills = []
    for attempt in range(3):
        ready = tmp_path / f"ready{attempt}"
        process = start(
            store, "--slices", SLICES, "--sleep", 0.004, "--ready", ready, "--journal", journal
        )
        wait_for(ready, process)
        kills.append((moments.randint(1, 60), moments.uniform(0.0, 0.06)))
        begun = journal.stat().st_size
        while journal.stat().st_size < begun + kills[-1][0] * len(spec.key):
            assert process.poll() is None, f"ended before the kill {kills}"
            time.sleep(0.001)
        time.sleep(kills[-1][1])
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL, f"ended before the kill {kills}"
        assert store.state(spec) in ("partial", "missing"), kills
        assert files_of(store.root) == [], kills
    last = Counted()
    manifest = load_or_run([spec], last, store=store, progress=False).runs[0].manifest
    expected, whole = uninterrupted
    assert content(store, spec) == expected, f"numbers differ after kills at {kills}"
    assert manifest["env_steps"] == whole["env_steps"]
    # In 60 slices of 4 ms there are checkpoints, unless every draw was tiny.
    if sum(slices for slices, _ in kills) > 40:
        assert 1 <= manifest["resumed"] <= 3 and len(last.slices) < SLICES, kills
    assert not store.checkpoint_dir(spec).exists()


def test_sigterm_stops_in_good_order(store, library_path, uninterrupted, tmp_path):
    spec, ready = toy_spec(SLICES), tmp_path / "ready"
    # Checkpoints only on demand: what is kept was saved because of the signal.
    process = start(store, "--slices", SLICES, "--sleep", 0.01, "--ready", ready, "--every", 999)
    wait_for(ready, process)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("loptrl: Stopped by SIGTERM after "), said
    assert "the same call goes on from there." in last
    assert store.state(spec) == "partial" and files_of(store.root) == []
    done = load_or_run([spec], Toy, store=store, progress=False).runs[0]
    assert content(store, spec) == uninterrupted[0]
    assert done.manifest["resumed"] == 1


def test_two_processes_compute_a_run_once(store, library_path, tmp_path):
    journal = tmp_path / "journal"
    options = ("--slices", 60, "--seeds", 3, "--every", 0.2, "--sleep", 0.004, "--journal", journal)
    both = [start(store, *options) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    lines = [line.split() for line in journal.read_text().splitlines()]
    assert len(lines) == 3 * 60, "every slice of every run exactly once"
    assert len({(key, step) for key, step, _ in lines}) == 3 * 60
    for seed in range(3):
        workers = {pid for key, _, pid in lines if key == toy_spec(60, seed).key}
        assert len(workers) == 1
        assert len(store.read(toy_spec(60, seed)).frame) == 60


def test_the_time_limit_of_a_process(store, library_path):
    process = start(store, "--slices", 5000, "--sleep", 0.01, "--time-limit", "0.2s")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 124, said
    assert "Stopped by the time limit after 0 of 1 runs" in said
    assert store.state(toy_spec(5000)) == "partial"
