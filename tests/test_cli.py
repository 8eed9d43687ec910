"""The command line: what it prints, what it computes, what it returns to the shell."""

from __future__ import annotations

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
    cli.main(["status", "--budget", "smoke"])
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "missing" in line]
    assert "Adam on a changing Ant (adam_collapse), smoke budget" in out
    assert len(lines) == 36 and "control_0.02" in out
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
        (["--help"], ["run", "status", "show", "execute", "bench"]),
        (["run", "--help"], ["STUDY", "--budget", "--arm", "--seeds", "--time-limit", "-p"]),
        (["status", "--help"], ["STUDY", "--budget"]),
        (["show", "--help"], ["KEY"]),
        (["execute", "--help"], ["NOTEBOOK", "-p", "--to"]),
        (["bench", "--help"], ["--seconds", "--reference"]),
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
