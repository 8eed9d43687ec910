"""The command line: what it prints, what it computes, what it returns to the shell."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest

from loptrl import cli
from loptrl.runs import Store
from probe_runs import SMALL
from store_files import files_of

SETTINGS = {**SMALL, "hidden": "[4]", "env_steps": 256}
PROBE = [part for name, value in SETTINGS.items() for part in ("-p", f"{name}={value}")]
RUN = ["run", "adam_collapse", "--budget", "smoke", "--arm", "adam", *PROBE]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty folder of data for the command."""
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LOPTRL_WEIGHTS", raising=False)
    return tmp_path / "data"


def test_run_status_show(data, capsys):
    cli.main([*RUN, "--seeds", "2"])
    assert capsys.readouterr().out == "2 runs of adam_collapse are stored: adam\n"
    runs = list(Store().iter_manifests())
    assert [run["seed"] for run in sorted(runs, key=lambda run: run["seed"])] == [0, 1]
    assert all(run["config"]["world"] == "probe_reach" for run in runs)
    assert len(files_of(data)) == 4

    before = {path: path.stat().st_mtime_ns for path in data.rglob("*.parquet")}
    cli.main([*RUN, "--seeds", "2"])
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*.parquet")} == before
    capsys.readouterr()

    key = runs[0]["key"]
    cli.main(["show", key[:10]])
    shown = capsys.readouterr().out
    manifest, end = json.JSONDecoder().raw_decode(shown)
    assert manifest == json.loads(json.dumps(runs[0]))
    assert "eval_return" in shown[end:] and "256" in shown[end:]


def test_status_of_nothing_and_of_something(data, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("LOPTRL_CACHE", str(data.parent / "cache"))
    cli.main(["status", "--budget", "smoke"])
    out = capsys.readouterr().out
    assert "Adam on a changing Ant (adam_collapse), smoke budget" in out
    assert "control_0.02" in out and "breakout.open_multi" in out
    # Study 1 with 13 arms of 3 seeds, and the two hand-designed optimizers of studies 4 and 5.
    # The authors' three weights in study 3, with and without change; ours are not planned here.
    # Study 7 has 30 measurements and no weights, study 9 two arms of Adam, study 10 one, and four
    # with the OPEN authors' weights, study 11 five of Adam and two with the Optim4RL authors'.
    missing = len([line for line in out.splitlines() if "missing" in line])
    assert missing == 39 + 16 + 8 + 30 + 4 + 3 + 15
    assert len([line for line in out.splitlines() if "no weights" in line]) == 24 + 12 + 18 + 12 + 6
    assert "weights are not known here: asterix.velo, freeway.velo" in out
    assert files_of(data) == [], "looking makes nothing"


def test_status_tells_done_and_diverged(data, capsys, monkeypatch):
    from loptrl.studies.adam_collapse import STUDY

    monkeypatch.setenv("COLUMNS", "160")
    one, other = STUDY.specs("smoke", ["adam"], 2)
    for spec, diverged in ((one, None), (other, 400)):
        write(Store(), spec, diverged)
    cli.main(["status", "adam_collapse", "--budget", "smoke"])
    lines = [line for line in capsys.readouterr().out.splitlines() if " adam " in line]
    assert [next(w for w in ("done", "diverged", "missing") if w in line) for line in lines] == [
        "done",
        "diverged",
        "missing",
    ]
    assert "4,000" in lines[0] and "1,234" in lines[0] and one.key in lines[0]


def write(store, spec, diverged):
    import pandas as pd

    manifest = {
        "env_steps": 4000, "versions": {}, "device": "test", "wall_time_s": 1.0,
        "peak_memory_bytes": 1, "env_steps_per_s": 1234.4, "commit": None,
        "created": "2026-01-01T00:00:00+00:00", "diverged_at": diverged, "resumed": 0,
    }  # fmt: skip
    store.write(spec, pd.DataFrame({"env_steps": [0, 400], "eval_return": [1.0, 2.0]}), manifest)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["run", "status", "show", "execute", "bench", "weights"]),
        (
            ["run", "--help"],
            ["STUDY", "--budget", "--arm", "--seeds", "--time-limit", "--together"],
        ),
        (["status", "--help"], ["STUDY", "--budget"]),
        (["show", "--help"], ["KEY"]),
        (["execute", "--help"], ["NOTEBOOK", "-p", "--to"]),
        (
            ["bench", "--help"],
            ["--seconds", "--arm", "--official", "--purejaxrl", "--optim4rl", "--their-python"]
            + ["--rounds", "--to"],
        ),
        (["meta", "--help"], ["optim4rl", "linear_optim", "l2lgd2", "open", "velo"]),
        (["meta", "velo", "--help"], ["--recipe", "standin", "--population", "--time-limit"]),
        (["weights", "--help"], ["list", "fetch", "import", "show"]),
        (["weights", "list", "--help"], ["licence"]),
        (["weights", "fetch", "--help"], ["NAME...", "--from", "LOPTRL_WEIGHTS"]),
        (["weights", "import", "--help"], ["NAME", "FILE"]),
        (["weights", "show", "--help"], ["NAME"]),
    ],
)
def test_help(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert end.value.code == 0 and captured.err == ""
    assert [word for word in words if word not in captured.out] == []


def test_help_needs_no_jax(library_path):
    code = (
        "import sys, loptrl.cli\n"
        "try: loptrl.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'jax', 'brax', 'pandas', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def official(data, tmp_path, monkeypatch):
    """A folder with `open/ant`, as if its content had been published, and an empty cache."""
    import hashlib

    import numpy as np

    from loptrl.weights import REGISTRY

    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    entry = REGISTRY["open/ant"]
    path = tmp_path / "official" / entry.file
    path.parent.mkdir()
    np.save(path, np.linspace(-1, 1, entry.values, dtype=np.float32))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    changed = dataclasses.replace(entry, sha256=digest, numbers_sha256=None)
    monkeypatch.setitem(REGISTRY, "open/ant", changed)
    return path


def test_weights_list_fetch_show(official, data, capsys):
    from loptrl import weights

    def listed():
        cli.main(["weights", "list"])
        out = capsys.readouterr().out
        return {line.split()[1]: line for line in out.splitlines() if "/" in line}

    before = listed()
    assert list(before) == list(weights.REGISTRY)
    assert all("not here" in line for line in before.values())
    assert "1,211" in before["open/ant"] and "5.0 kB" in before["open/ant"]
    assert "Apache-2.0" in before["open/ant"] and "Brax Ant" in before["open/ant"]
    assert "none named" in before["optim4rl/ant"] and "9.3 MB" in before["velo/released"]
    assert files_of(data.parent) == ["official/ant_OPEN.npy"], "looking makes nothing"

    cli.main(["weights", "fetch", "open/ant", "--from", str(official.parent)])
    assert capsys.readouterr().out == "imported open/ant\n"
    arrays = weights.load("open/ant").arrays
    weights.save(weights.weights_dir() / "open" / "mine.npz", arrays, {"family": "open"})
    after = listed()
    assert "imported" in after["open/ant"] and "5.0 kB" in after["open/ant"]
    assert "ours" in after["open/mine"]
    kept = weights.weights_dir() / "open"
    weights.save(kept / "cut.npz", arrays, {"family": "open"})
    (kept / "cut.npz").write_bytes(b"")
    weights.save(kept / "bare.npz", arrays, {"family": "open"})
    (kept / "bare.json").write_text("{")
    found = listed()
    assert "damaged" in found["open/cut"] and "damaged" in found["open/bare"]
    assert found["open/mine"] == after["open/mine"]

    cli.main(["weights", "show", "open/ant"])
    card = json.loads(capsys.readouterr().out)
    assert (card["where"], card["values"], card["licence"]) == ("imported", 1211, "Apache-2.0")
    cli.main(["weights", "show", "velo/released"])
    card = json.loads(capsys.readouterr().out)
    assert (card["where"], card["sha256"]) == ("not here", None)


def test_weights_import(official, capsys):
    from loptrl import weights

    cli.main(["weights", "import", "open/ant", str(official)])
    assert capsys.readouterr().out.startswith("imported open/ant into ")
    assert weights.available("ant", "open")


def test_a_time_limit_has_its_own_exit_code(data, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([*RUN, "--seeds", "1", "--time-limit", "0.001s"])
    said = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 124
    assert said[-1].startswith("loptrl: Stopped by the time limit after ")
    assert files_of(data) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e6", 2_000_000),
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ("[64, 64]", [64, 64]),
        ("ant", "ant"),
        ("-1", -1),
    ],
)
def test_values_of_settings(text, value):
    got = cli._value(text)
    assert got == value and type(got) is type(value)
