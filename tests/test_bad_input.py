"""Every mistake ends with exactly one sentence on stderr, a non-zero status, and nothing left."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faults import FaultyOs
from loptrl import book, cli, files
from loptrl.paths import repo_root
from loptrl.runs import Store
from loptrl.weights import REGISTRY
from probe_runs import SMALL
from store_files import files_of

SETTINGS = {**SMALL, "hidden": "[4]", "env_steps": 256}
PROBE = [part for name, value in SETTINGS.items() for part in ("-p", f"{name}={value}")]
STUDY = ["run", "adam_collapse", "--budget", "smoke"]
ADAM = [*STUDY, "--arm", "adam", "--seeds", "1"]
NOTEBOOK = "notebooks/00_two_state_mdp.md"


def drift(**fields: object) -> str:
    return "drift=" + json.dumps({"friction": fields})


def steps(**changes: object) -> str:
    return drift(**{"form": "Steps", "low": 0.1, "high": 1.0, "period": 100, **changes})


MISTAKES = {
    "no command": ([], "Expected one of {run, status, show, execute, bench, weights, meta}"),
    "an unknown command": (["train"], "Unrecognized options: train"),
    "an unknown option": ([*ADAM, "--colour", "red"], "Unrecognized options: --colour, red"),
    "no study": (["run"], "Missing from loptrl run: STUDY"),
    "text for a number of seeds": ([*STUDY, "--seeds", "two"], "Error parsing --seeds: .*two"),
    "half a seed": ([*STUDY, "--seeds", "1.5"], r"Error parsing --seeds: .*1\.5"),
    "an option without a value": ([*STUDY, "--seeds"], "Missing value for argument '--seeds'"),
    "none together": (
        [*STUDY, "--together", "0"],
        "Expected together as a whole number >= 1, got 0",
    ),
    "an unknown study": (["run", "adam"], "unknown study 'adam': expected one of adam_collapse"),
    "an unknown budget": (["run", "adam_collapse", "--budget", "lap top"], "unknown budget"),
    "an unknown arm": ([*STUDY, "--arm", "sgd"], "unknown arm 'sgd' of adam_collapse: expected"),
    "an arm twice": ([*ADAM, "--arm", "adam"], "arms adam and adam are the same run"),
    "seeds 0": ([*STUDY, "--seeds", "0"], "seeds must be a whole number of at least 1, got 0"),
    "seeds -1": ([*STUDY, "--seeds", "-1"], "seeds must be a whole number of at least 1, got -1"),
    "an unknown setting": ([*ADAM, "-p", "lr=1"], "unknown setting 'lr': PPOConfig has"),
    "seeds as a setting": ([*ADAM, "-p", "seeds=3"], "unknown setting 'seeds': PPOConfig has"),
    "a store as a setting": ([*ADAM, "-p", "store=/"], "unknown setting 'store'"),
    "-p without a value": ([*ADAM, "-p", "env_steps"], "-p expects NAME=VALUE, got 'env_steps'"),
    "-p without a name": ([*ADAM, "-p", "=3"], "-p expects NAME=VALUE, got '=3'"),
    "-p twice": ([*ADAM, "-p", "epochs=1", "-p", "epochs=2"], "-p names epochs twice"),
    "zero env steps": ([*ADAM, "-p", "env_steps=0"], "env_steps must be a whole number of at"),
    "negative sizes": ([*ADAM, "-p", "num_envs=-8"], "num_envs must be .*, got -8"),
    "fractions of a step": ([*ADAM, "-p", "rollout_length=2.5"], r"rollout_length .* got 2\.5"),
    "text for a size": ([*ADAM, "-p", "env_steps=2 million"], "env_steps .* got '2 million'"),
    "NaN": ([*ADAM, "-p", "discount=NaN"], "discount must be a number .*, got nan"),
    "infinity": ([*ADAM, "-p", "eval_every=Infinity"], "eval_every must be .*, got inf"),
    "out of range": ([*ADAM, "-p", "gae_lambda=2"], "gae_lambda must be .* at most 1, got 2"),
    "what does not divide": ([*ADAM, "-p", "minibatches=7"], "minibatches must divide .*= 160"),
    "a width for widths": ([*ADAM, "-p", "hidden=64"], "hidden must list the widths .* got 64"),
    "maybe": ([*ADAM, "-p", "normalize_rewards=maybe"], "normalize_rewards must be true or false"),
    "an unknown activation": ([*ADAM, "-p", "activation=gelu"], "activation must be 'tanh' or"),
    "an unknown environment": ([*ADAM, "-p", "world=cheetah"], "unknown world 'cheetah'"),
    "a list for an environment": ([*ADAM, "-p", 'world=["ant"]'], "world must be a name"),
    "an unknown backend": ([*ADAM, "-p", "backend=mjx"], "unknown backend 'mjx': expected one of"),
    "a bare optimizer": ([*ADAM, "-p", "optimizer=adam"], "OptimizerConfig expects names with"),
    "an unknown optimizer": (
        [*ADAM, *PROBE, "-p", 'optimizer={"name": "adamm"}'],
        "got 'adamm' and weights none; name one of these",
    ),
    "b1=1": ([*ADAM, "-p", 'optimizer={"b1": 1}'], "b1 and b2 must be below 1"),
    "an unknown number": ([*ADAM, "-p", 'optimizer={"beta": 0.5}'], "unknown setting 'beta'"),
    "a rate of zero": ([*ADAM, "-p", 'optimizer={"learning_rate": 0}'], "learning_rate must be"),
    "a drift with period 0": ([*ADAM, "-p", steps(period=0)], r"Steps\.period must be .*, got 0"),
    "low above high": ([*ADAM, "-p", steps(low=2)], "Steps needs low <= high, got low=2 and"),
    "a friction of 0": ([*ADAM, "-p", steps(low=0)], r"Steps\.low must be a number above 0"),
    "an unknown form": ([*ADAM, "-p", drift(form="Jump")], "drift forms are .*, got 'Jump' for"),
    "an incomplete form": ([*ADAM, "-p", drift(form="Steps")], "Steps for friction is incomplete"),
    "an unknown field": (
        [*ADAM, "-p", steps(hihg=3)],
        r"Steps has the fields .*, got also \['hihg",
    ),
    "an unknown channel": ([*ADAM, "-p", 'drift={"wind": {}}'], "a drift has the channels"),
    "a number for a drift": ([*ADAM, "-p", "drift=5"], "drift must map names to values, got 5"),
    "a mistyped time limit": ([*ADAM, "--time-limit", "soon"], "Expected a time limit such as 90s"),
    "no time": ([*ADAM, "--time-limit", "0m"], "Expected a time limit such as 90s"),
    "status of an unknown study": (["status", "nope"], "unknown study 'nope'"),
    "status of an unknown budget": (["status", "--budget", "big"], "unknown budget 'big'"),
    "show without a key": (["show"], "Missing from loptrl show: KEY"),
    "show no key": (["show", "xyz"], "Expected 1 to 16 hex digits of a run's key, got 'xyz'"),
    "show an unknown key": (["show", "abc"], "Expected a stored run whose key starts with abc"),
    "an unknown notebook": (["execute", "notebooks/99.md"], "Could not read the notebook"),
    "not a notebook": (["execute", "README.md"], r"README.md is not a jupytext md:myst notebook"),
    "a parameter it has not": (["execute", NOTEBOOK, "-p", "colour=1"], "has no parameter colour"),
    "text for its number": (["execute", NOTEBOOK, "-p", "seeds=many"], "seeds.*many"),
    "an impossible page": (["execute", NOTEBOOK, "--to", "a/b"], "The page's name must be letters"),
    "a bench of no time": (["bench", "--seconds", "0"], r"seconds must be above 0, got 0"),
    "a bench of nobody": (["bench", "--arm", "x"], "expected an arm as STUDY/ARM, .*, got 'x'"),
    "a bench of theirs, nowhere": (
        ["bench", "--arm", "official:open"],
        "official:open needs a checkout of that code; name it with --official DIR",
    ),
    "a bench of theirs, elsewhere": (
        ["bench", "--purejaxrl", "lib"],
        r"expected purejaxrl/ppo.py in lib, found none; --purejaxrl takes a checkout",
    ),
    "a bench of an unknown arm": (["bench", "--arm", "brax_ant/x"], "unknown arm 'x' of brax_ant"),
    "weights and nothing": (["weights"], "Expected one of {list, fetch, import, show, untrained}"),
    "an unknown weights command": (["weights", "train"], "Unrecognized options: train"),
    "fetch nothing": (["weights", "fetch"], "expected the names of weights"),
    "fetch an unknown name": (
        ["weights", "fetch", "open/pong"],
        "no published weights 'open/pong'; known are open/ant, .*velo/released",
    ),
    "fetch a family": (["weights", "fetch", "open"], "no published weights 'open'"),
    "fetch what cannot be checked": (
        ["weights", "fetch", "velo/released"],
        "no checksum of velo/released is known, .* run `loptrl weights import velo/released FILE`",
    ),
    "fetch without a network": (
        ["weights", "fetch", "open/ant"],
        "could not download https://raw.* --from DIR or LOPTRL_WEIGHTS",
    ),
    "fetch from nowhere": (
        ["weights", "fetch", "--from", "no/folder"],
        "expected official files such as multi_OPEN.npy in no/folder, got none",
    ),
    "fetch what is not in a folder": (
        ["weights", "fetch", "open/multi", "--from", "tests"],
        "expected multi_OPEN.npy in tests or its folder open for open/multi, found none",
    ),
    "import without a file": (["weights", "import", "open/ant"], "weights import: FILE"),
    "import an unknown name": (["weights", "import", "x", "README.md"], "no published weights 'x'"),
    "import no file": (
        ["weights", "import", "open/ant", "no.npy"],
        "could not read no.npy: No such file or directory; check the path",
    ),
    "import a folder": (["weights", "import", "open/ant", "tests"], "could not read tests: Is a"),
    "import a wrong checksum": (
        ["weights", "import", "open/ant", "README.md"],
        r"expected the sha256 e1901cafe323\.\.\. for README.md, got .*; .* get it again",
    ),
    "import no pickle": (
        ["weights", "import", "optim4rl/ant", "README.md"],
        "expected a pickle of plain arrays in README.md, got",
    ),
    "import half of VeLO": (
        ["weights", "import", "velo/released", "README.md"],
        "expected VeLO's config.gin beside README.md, found none; get both",
    ),
    "show no weights": (["weights", "show"], "Missing from loptrl weights show: NAME"),
    "an odd population": (
        ["meta", "velo", "--recipe", "standin", "--name", "mine", "--population", "3"],
        "population must be even, since members come in pairs, got 3",
    ),
    "show unknown weights": (["weights", "show", "open/pong"], "no weights 'open/pong' are here"),
    "show no file of weights": (["weights", "show", "no.npz"], "could not read no.npz: there is"),
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty folder of data and pages for the command."""
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LOPTRL_WEIGHTS", raising=False)
    monkeypatch.setattr(book, "executed_dir", lambda: tmp_path / "pages")
    monkeypatch.chdir(repo_root())
    return tmp_path


def sentence(said: str) -> str:
    """What stands after `loptrl: `, which must be the whole of stderr but for progress."""
    lines = [line for line in said.splitlines() if not line.startswith("loptrl: run 1/")]
    assert len(lines) == 1 and lines[0].startswith("loptrl: "), said
    return lines[0].removeprefix("loptrl: ")


@pytest.mark.parametrize("case", MISTAKES)
def test_one_sentence_and_nothing_left(case, data, capsys):
    arguments, message = MISTAKES[case]
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    captured = capsys.readouterr()
    assert end.value.code == 2 and captured.out == ""
    assert re.search(message, sentence(captured.err)), captured.err
    assert files_of(data) == []


def test_enough_kinds():
    assert len(MISTAKES) >= 25


# Started as a user does: a warning, a traceback or a message at exit would show here.
IN_A_PROCESS = ["an unknown option", "an unknown study", "a drift with period 0", "NaN",
                "text for a number of seeds", "an unknown backend"]  # fmt: skip


@pytest.mark.parametrize("case", IN_A_PROCESS)
def test_in_a_process(case, data, library_path):
    arguments, message = MISTAKES[case]
    done = subprocess.run(
        [sys.executable, "-m", "loptrl.cli", *arguments],
        capture_output=True, text=True, cwd=repo_root(), timeout=120,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert re.search(message, sentence(done.stderr))
    assert files_of(data) == []


def fails(arguments, capsys, code=2):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == code
    return sentence(capsys.readouterr().err)


@pytest.fixture
def stored(data, capsys):
    """One stored run of a probe: its Parquet file."""
    cli.main([*ADAM, *PROBE])
    capsys.readouterr()
    (path,) = (data / "data" / "results").rglob("*.parquet")
    return path


def test_an_unwritable_store(data, capsys, monkeypatch):
    Path(data / "data").write_text("a file where a folder should be")
    assert "is a file; name a folder" in fails([*ADAM, *PROBE], capsys)
    monkeypatch.setenv("LOPTRL_DATA", "/proc/nowhere")
    assert "/proc/nowhere" in fails([*ADAM, *PROBE], capsys)


def test_a_full_disk(data, capsys, monkeypatch):
    monkeypatch.setattr(files, "os", FaultyOs("write"))
    assert "No space left on device" in fails([*ADAM, *PROBE], capsys)
    assert files_of(data) == []


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
def test_a_truncated_file(stored, capsys, suffix):
    path = stored.with_suffix(suffix)
    path.write_bytes(path.read_bytes()[:-20])
    said = fails(["show", stored.stem], capsys)
    assert path.name in said


def test_a_wrong_checksum(stored, capsys):
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    assert "checksum" in fails(["show", stored.stem], capsys)
    # It is computed again, and said so, never shown.
    cli.main([*ADAM, *PROBE])
    captured = capsys.readouterr()
    assert stored.name in captured.err and "computed again" in captured.err
    assert Store().find(stored.stem).manifest["seed"] == 0


@pytest.fixture
def official(data, monkeypatch):
    """An official file, as if it had been published, and an empty cache."""
    monkeypatch.setenv("LOPTRL_CACHE", str(data / "cache"))
    path = data / "official" / "param.pickle"
    path.parent.mkdir()
    path.write_bytes(pickle.dumps({"params": {"a": np.linspace(-1, 1, 514, dtype=np.float32)}}))
    entry = dataclasses.replace(REGISTRY["optim4rl/ant"], numbers_sha256=None)
    monkeypatch.setitem(REGISTRY, "optim4rl/ant", entry)
    return path


def spoil(numbers: np.ndarray, how: str) -> bytes:
    """A pickle of weights with one thing wrong."""
    if how == "NaN":
        numbers[3] = np.nan
    tree = {"params": {"a": numbers[:-1] if how == "short" else numbers}}
    if how == "objects":
        tree["params"]["b"] = np.array([{}], dtype=object)
    if how == "code":
        tree["params"]["b"] = eval
    data = pickle.dumps(tree)
    return data[:-9] if how == "cut" else data


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("NaN", "expected finite numbers in .*param.pickle, a holds NaN or infinity"),
        ("short", "expected 514 numbers in .*param.pickle, got 513"),
        ("objects", "expected a pickle of plain arrays in .*param.pickle, got the type .O8"),
        ("code", "it asks for 'builtins.eval'; such a file is not opened"),
        ("cut", "expected a pickle of plain arrays in .*param.pickle, got .*; get it again"),
    ],
)
def test_a_spoiled_file_of_weights(official, data, capsys, how, message):
    numbers = np.linspace(-1, 1, 514, dtype=np.float32)
    official.write_bytes(spoil(numbers, how))
    assert re.search(message, fails(["weights", "import", "optim4rl/ant", str(official)], capsys))
    assert files_of(data) == ["official/param.pickle"]


def test_an_unwritable_cache(official, data, capsys, monkeypatch):
    take = ["weights", "import", "optim4rl/ant", str(official)]
    monkeypatch.setattr(files, "os", FaultyOs("write"))
    assert "No space left on device" in fails(take, capsys)
    assert files_of(data) == ["official/param.pickle"]
    monkeypatch.setenv("LOPTRL_CACHE", "/proc/nowhere")
    assert "/proc/nowhere" in fails(take, capsys)
    assert "/proc/nowhere" in fails(["weights", "fetch", "open/ant"], capsys)
    monkeypatch.setenv("LOPTRL_CACHE", str(official))
    assert "is a file; name a folder" in fails(take, capsys)


HEADER = "---\nkernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n---\n\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
        ("1 / 0", "failed with ZeroDivisionError"),
    ],
)
def test_a_notebook_that_fails_leaves_no_page(data, capsys, library_path, source, message):
    path = data / "page.md"
    path.write_text(f"{HEADER}```{{code-cell}} ipython3\n{source}\n```\n", encoding="utf-8")
    assert message in fails(["execute", str(path)], capsys)
    assert files_of(data) == ["page.md"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_store_without_permission(data, capsys):
    (data / "data").mkdir(mode=0o500)
    assert "Permission denied" in fails([*ADAM, *PROBE], capsys)
