"""The lock file, the conda environment, the Makefile and the workflow agree with each other."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from loptrl.paths import repo_root

ROOT = repo_root()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PYTHONS = ("3.11", "3.12", "3.13")


def environment(python: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.7",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "implementation_name": "cpython",
        "os_name": "posix",
        "extra": "",
    }


def locked(python: str) -> dict[str, Version]:
    """What the lock installs under one Python: name -> version."""
    found: dict[str, Version] = {}
    for line in LOCK.splitlines():
        if not line or line.startswith((" ", "#")):
            continue
        requirement = Requirement(line.removesuffix("\\").strip())
        if requirement.marker and not requirement.marker.evaluate(environment(python)):
            continue
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        name = canonicalize_name(requirement.name)
        assert name not in found, f"{name} twice under Python {python}"
        found[name] = Version(pin.version)
    return found


def declared() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"]
    lines = [
        *PROJECT["project"]["dependencies"],
        *extras["book"],
        *extras["test"],
        *PROJECT["dependency-groups"]["build"],
    ]
    return [Requirement(line) for line in lines]


def test_every_import_of_the_library_is_a_declared_requirement():
    """Another package's requirement may go; without an extra only our own are promised."""
    plain = {canonicalize_name(Requirement(r).name) for r in PROJECT["project"]["dependencies"]}
    extra = {canonicalize_name(r.name) for r in declared()}
    # Jax brings its compiled half, and the notebook tools are those of the extra `book`.
    plain.add("jaxlib")
    owners, checked = packages_distributions(), set()
    # bench_others is run by other projects' interpreters.
    files = set((ROOT / "lib").rglob("*.py")) - {ROOT / "lib" / "loptrl" / "bench_others.py"}
    for file in sorted(files):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names}:
                if top in sys.stdlib_module_names or top == "loptrl":
                    continue
                allowed = extra if file.name in ("book.py", "book_site.py") else plain
                found = {canonicalize_name(name) for name in owners.get(top, [top])}
                assert found & allowed, f"{file} imports {top}, which pyproject.toml does not name"
                checked.add(top)
    assert {"jax", "tqdm", "papermill"} <= checked


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_satisfies_every_requirement(python):
    pins = locked(python)
    for requirement in declared():
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not locked for Python {python}: run make lock"
        assert requirement.specifier.contains(pins[name]), f"{requirement} but {pins[name]}"


def test_the_lock_has_hashes_and_no_addresses():
    assert "://" not in LOCK
    assert not re.search(r"^-", LOCK, re.MULTILINE)
    blocks = re.split(r"\n(?=\S)", LOCK.strip())
    assert len(blocks) > 100
    assert all("--hash=sha256:" in block for block in blocks)


def test_what_breaks_the_book_is_pinned():
    book = {
        r.name: r for r in map(Requirement, PROJECT["project"]["optional-dependencies"]["book"])
    }
    assert str(book["jupyter-book"].specifier) == "==1.0.4.post1"
    assert str(book["sphinx-external-toc"].specifier) == "==1.0.1"


def test_the_extras_are_there():
    assert {"book", "test", "cuda"} <= set(PROJECT["project"]["optional-dependencies"])
    assert PROJECT["project"]["scripts"] == {"loptrl": "loptrl.cli:main"}
    assert PROJECT["tool"]["setuptools"]["packages"]["find"]["where"] == ["lib"]


def test_every_package_of_the_library_would_be_installed():
    for folder in {path.parent for path in (ROOT / "lib" / "loptrl").rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), f"{folder.name} has no __init__.py"


def test_conda_brings_python_and_the_lock_the_rest():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *channel, pip = conda["dependencies"]
    assert pip == {"pip": ["-r requirements.lock"]}
    names = {re.split(r"[<>=]", item, maxsplit=1)[0]: item for item in channel}
    assert set(names) == {"python", "pip"}
    allowed = SpecifierSet(names["python"].removeprefix("python"))
    required = SpecifierSet(PROJECT["project"]["requires-python"])
    for python in PYTHONS:
        assert allowed.contains(f"{python}.0") and required.contains(f"{python}.0")
    assert not allowed.contains("3.10.9") and not required.contains("3.10.9")
    assert not allowed.contains("3.14.0"), "the lock is tried on 3.11 to 3.13 only"


def test_the_version_is_said_once_more_only_where_it_must():
    import loptrl

    assert PROJECT["project"]["version"] == loptrl.__version__


def test_workflow_runs_the_same_command_and_asks_for_little():
    path = ROOT / ".github" / "workflows" / "book.yml"
    flow = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in flow["jobs"].values() for step in job["steps"]]
    assert any(step.get("run") == ".ci/run" for step in steps)
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@v\d+", name) for name in used)
    assert flow["permissions"] == {"contents": "read"}
    assert flow["jobs"]["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert "concurrency" in flow and all("timeout-minutes" in j for j in flow["jobs"].values())


def test_ci_stops_at_the_first_failure():
    script = ROOT / ".ci" / "run"
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize("target", ["book", "test"])
def test_without_python_make_says_what_it_wants(tmp_path, target):
    venv = tmp_path / "venv"
    done = subprocess.run(
        ["make", "-C", str(ROOT), target, f"VENV={venv}", f"PYTHON={tmp_path}/python3.9"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "expected Python 3.11 or later" in done.stderr
    assert not venv.exists()


def test_make_refuses_an_old_python(tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["make", "-C", str(ROOT), "test", f"VENV={tmp_path}/venv", f"PYTHON={old}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0 and "expected Python 3.11 or later" in done.stderr


def test_make_installs_with_hashes_and_nothing_else():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes -r requirements.lock" in text
    assert "--no-deps --no-build-isolation -e ." in text
    assert 'jupyter-book" build -W -n --keep-going' in text


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs a git checkout"
)
def test_git_sees_the_sources_and_not_what_is_made():
    def ignored(name: str) -> bool:
        done = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "-q", "--no-index", name])
        return done.returncode == 0

    for name in (
        "lib/loptrl/runs.py",
        "lib/loptrl/build/x.py",
        "data/results/a/b/c.parquet",
        "data/weights/x.npz",
        "notebooks/00_two_state_mdp.md",
        "book/limits.md",
        ".ci/run",
        ".github/workflows/book.yml",
    ):
        assert not ignored(name), name
    for name in (
        "book/executed/x.ipynb",
        "_build/html/index.html",
        ".venv/bin/python",
        "lib/loptrl.egg-info/PKG-INFO",
        "lib/loptrl/__pycache__/runs.pyc",
    ):
        assert ignored(name), name


def test_nothing_shipped_names_a_private_place():
    private = ["/" + "work/", ".." + "/shared", "/tmp/" + "plan"]
    kept = [ROOT / name for name in ("lib", "tests", "notebooks", "book", ".ci", ".github")]
    files = [path for folder in kept for path in folder.rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    for path in files:
        if path.suffix in {".pyc", ".ipynb"} or ".egg-info" in str(path):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found = [word for word in private if word in text]
        assert not found, f"{Path(path).relative_to(ROOT)} names {found[0]}"
