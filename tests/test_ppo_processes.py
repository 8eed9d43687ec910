"""Real runs in real processes: killed with -9 and stopped, they end bit-identical."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from loptrl import weights
from loptrl.runs import RunSpec, Store
from loptrl.studies import get
from probe_runs import SMALL, ant_spec, long_spec, meta_spec
from store_files import content, files_of

PROGRAM = Path(__file__).with_name("probe_runs.py")


def start(command: list[object]) -> subprocess.Popen:
    line = [sys.executable, *(str(part) for part in command)]
    return subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_checkpoint(store: Store, spec: RunSpec, process: subprocess.Popen) -> None:
    end = time.monotonic() + 500
    while not any(store.checkpoint_dir(spec).glob("*/step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no checkpoint appeared"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    """The long probe run, in one go."""
    folder = tmp_path_factory.mktemp("whole")
    process = start([PROGRAM, folder / "results", folder / "scratch"])
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    store = Store(folder / "results", folder / "scratch")
    frame = store.read(long_spec()).frame
    assert len(frame) == 501 and frame["eval_return"].nunique() > 250
    return content(store, long_spec())


def test_killed_and_resumed(store, library_path, uninterrupted):
    """kill -9, twice, at moments drawn anew in every session of tests."""
    spec = long_spec()
    moments = [random.uniform(0.0, 0.4) for _ in range(2)]
    for moment in moments:
        process = start([PROGRAM, store.root, store.scratch])
        wait_for_checkpoint(store, spec, process)
        time.sleep(moment)
        assert process.poll() is None, (moments, process.communicate())
        process.kill()
        process.communicate()
        assert files_of(store.root) == [], "nothing is stored before it is whole"
    assert store.state(spec) == "partial"
    process = start([PROGRAM, store.root, store.scratch])
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    run = store.read(spec)
    assert content(store, spec) == uninterrupted, moments
    assert run.manifest["resumed"] >= 1 and run.manifest["diverged_at"] is None


@pytest.mark.long
def test_a_meta_training_killed_and_resumed_ends_with_the_same_weights(tmp_path, library_path):
    spec = meta_spec()
    whole, broken = (Store(tmp_path / name / "r", tmp_path / name / "s") for name in "ab")
    for store, kill in ((whole, False), (broken, True), (broken, False)):
        process = start([PROGRAM, store.root, store.scratch, "meta"])
        if kill:
            wait_for_checkpoint(store, spec, process)
            time.sleep(random.uniform(0.0, 0.3))
            assert process.poll() is None, process.communicate()
            process.kill()
        _, said = process.communicate(timeout=600)
        assert kill or process.returncode == 0, said
    assert content(broken, spec) == content(whole, spec)
    assert (broken.read(spec).manifest["resumed"], len(broken.read(spec).frame)) == (1, 200)
    kept = [weights.load(store.root / "theta.npz", family="optim4rl") for store in (whole, broken)]
    assert kept[0].card["slices"] == 200
    for name, numbers in kept[0].arrays.items():
        np.testing.assert_array_equal(numbers, kept[1].arrays[name])


@pytest.mark.long
def test_the_ant_killed_and_resumed(tmp_path, library_path):
    """The same for the study's own task, once."""
    spec = ant_spec()
    whole, broken = (Store(tmp_path / name / "r", tmp_path / name / "s") for name in "ab")
    for store, kill in ((whole, False), (broken, True), (broken, False)):
        process = start([PROGRAM, store.root, store.scratch, "ant"])
        if kill:
            wait_for_checkpoint(store, spec, process)
            process.kill()
        _, said = process.communicate(timeout=600)
        assert kill or process.returncode == 0, said
    assert content(broken, spec) == content(whole, spec)
    assert broken.read(spec).manifest["resumed"] == 1
    assert len(broken.read(spec).frame) == 10


def test_the_command_is_stopped_and_goes_on(tmp_path, library_path, monkeypatch):
    """`loptrl run`: SIGTERM leaves a checkpoint and says how to go on; the same line does."""
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    steps = 128 * 300
    sizes = {**SMALL, "env_steps": steps, "hidden": "[8, 8]"}
    settings = [part for name, value in sizes.items() for part in ("-p", f"{name}={value}")]
    command = ["-m", "loptrl.cli", "run", "adam_collapse", "--budget", "smoke", "--arm", "adam"]
    command += ["--seeds", "1", *settings]
    store = Store(tmp_path / "data" / "results")
    (spec,) = get("adam_collapse").specs("smoke", ["adam"], 1, **{**SMALL, "env_steps": steps})
    process = start(command)
    end = time.monotonic() + 180
    while store.state(spec) != "running":
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=180)
    assert process.returncode == 143, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("loptrl: Stopped by SIGTERM after ") and "goes on from there." in last
    assert files_of(tmp_path / "data") == [] and store.state(spec) == "partial"
    process = start([*command, "--time-limit", "10m"])
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert out == "1 runs of adam_collapse are stored: adam\n"
    assert store.read(spec).manifest["resumed"] == 1
    assert store.read(spec).manifest["env_steps"] == steps
