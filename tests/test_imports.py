"""The floors of the library: a file imports only from its own floor and those below."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from loptrl.paths import repo_root
from loptrl.studies import answers

LIBRARY = repo_root() / "lib" / "loptrl"
NOTEBOOKS = sorted((repo_root() / "notebooks").glob("*.md"))

FLOORS = {"envs": 1, "optimizers": 1, "ppo": 2, "meta": 3, "studies": 4}
FACES = {
    *("cli", "meta_cli", "weights_cli", "book", "book_site", "__main__"),
    *("bench", "bench_floor", "bench_measure", "bench_others"),
}
FACE = 5
# Beyond the order of the floors: these do not know each other at all.
STRANGERS = {
    "envs": {"optimizers"},
    "optimizers": {"envs"},
    "ppo": {"envs", "optimizers", "meta"},
}
# Each of these enters by one adapter. The benchmark compares with brax's own trainer.
ADAPTERS = {
    "brax": {"envs", "bench_measure"},
    "gymnax": {"envs"},
    "evosax": {"meta"},
    "sklearn": {"meta"},
    "mujoco": set(),
    "pickle": {"plain_pickle"},
    "pooch": {"weights"},
    "msgpack": {"weight_formats"},
    "cloudpickle": set(),
}
# Of the library below the faces, exactly one file each.
SINGLE_FILES = {
    "brax": "envs/bodies.py",
    "gymnax": "envs/minatar.py",
    "evosax": "meta/es.py",
    "sklearn": "meta/supervised.py",
}
# Ground files that may import jax at all; the rest of the ground must work without it.
GROUND_WITH_JAX = {"keys", "trees", "devices", "checkpoints", "drive"}
FOR_NOTEBOOKS = {"studies", "stats", "plots", "style", "verdicts", "status_page"}


class Import(NamedTuple):
    """One import: the file, the dotted name, and whether it runs when the file is imported."""

    file: Path
    name: str
    line: int
    at_import: bool


def imports_of(file: Path, source: str | None = None) -> Iterator[Import]:
    """Every import of a file, relative ones resolved, type-checking ones left out."""
    package = ["loptrl", *file.relative_to(LIBRARY).parts[:-1]] if source is None else []
    tree = ast.parse(file.read_text(encoding="utf-8") if source is None else source)

    def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(file, alias.name, child.lineno, at_import)
            elif isinstance(child, ast.ImportFrom):
                parent = package[: len(package) - child.level + 1] if child.level else []
                base = ".".join([*parent, *([child.module] if child.module else [])])
                for alias in child.names:
                    yield Import(file, f"{base}.{alias.name}", child.lineno, at_import)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, at_import and not inside)

    yield from walk(tree, True)


def part(name: str) -> str:
    """The part of the library that a dotted name or a file belongs to; "" for the package."""
    pieces = name.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def part_of(file: Path) -> str:
    return file.relative_to(LIBRARY).with_suffix("").parts[0]


def floor(of: str) -> int:
    return FACE if of in FACES else FLOORS.get(of, 0)


def problems(found: Iterator[Import]) -> list[str]:
    """What is wrong with some imports, one line each."""
    wrong = []
    for item in found:
        here = part_of(item.file)
        where = f"{item.file.relative_to(LIBRARY)}:{item.line} imports {item.name}"
        top = item.name.split(".")[0]
        if top == "loptrl":
            there = part(item.name)
            if floor(there) > floor(here):
                wrong.append(f"{where}, which is on a floor above")
            if there in STRANGERS.get(here, ()):
                wrong.append(f"{where}: {here} must not know {there}")
        if top in ADAPTERS and here not in ADAPTERS[top]:
            wrong.append(f"{where}: only {', '.join(ADAPTERS[top]) or 'nobody'} may")
        if top in ("jax", "flax", "optax", "orbax") and floor(here) == 0:
            if here not in GROUND_WITH_JAX:
                wrong.append(f"{where}: the ground works without it")
        if top in SINGLE_FILES and here in FLOORS:
            relative = item.file.relative_to(LIBRARY).as_posix()
            if relative != SINGLE_FILES[top]:
                wrong.append(f"{where}: only {SINGLE_FILES[top]} may")
    return wrong


def test_the_library_keeps_its_floors():
    files = sorted(LIBRARY.rglob("*.py"))
    assert len(files) > 10
    assert problems(item for file in files for item in imports_of(file)) == []


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("stats/x.py", "from loptrl.envs import ant", "floor above"),
        ("runs.py", "def f():\n    import loptrl.studies.base", "floor above"),
        ("ppo/loss.py", "from loptrl.optimizers import adam", "must not know optimizers"),
        ("envs/ant.py", "from loptrl import optimizers", "must not know optimizers"),
        ("ppo/loss.py", "import brax.envs", "only"),
        ("plots/curves.py", "import jax.numpy as jnp", "works without it"),
        ("meta/bilevel.py", "import evosax", r"only meta/es\.py"),
        ("meta/es.py", "from sklearn import datasets", r"only meta/supervised\.py"),
        ("envs/probes.py", "import gymnax", r"only envs/minatar\.py"),
        ("envs/minatar.py", "from brax import envs", r"only envs/bodies\.py"),
        ("studies/x.py", "def f():\n    from gymnax import make", "only envs may"),
        ("runs.py", "import pickle", "only plain_pickle"),
        ("runs.py", "import cloudpickle", "nobody"),
    ],
)
def test_a_breach_is_noticed(file, source, message):
    found = problems(imports_of(LIBRARY / file, source))
    assert any(re.search(message, line) for line in found), found


def test_type_checking_imports_do_not_count():
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jax\n"
    assert problems(imports_of(LIBRARY / "runs.py", source)) == []


def code_cells(path: Path) -> list[object]:
    import jupytext

    return [cell for cell in jupytext.read(path).cells if cell.cell_type == "code"]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120
    )


def test_stored_results_are_drawn_without_jax():
    modules = [
        "loptrl.runs",
        "loptrl.stats",
        "loptrl.plots",
        "loptrl.style",
        "loptrl.drive",
        "loptrl.weights",
        "loptrl.verdicts",
        "loptrl.status_page",
        "loptrl.book",
    ]
    code = (
        f"import sys, {', '.join(modules)}\n"
        "heavy = {'jax', 'brax', 'flax', 'optax', 'orbax', 'mujoco', 'pooch'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_without_brax(path):
    lines = [
        ast.unparse(node)
        for cell in code_cells(path)
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    done = run_python("\n".join([*lines, "import sys", "assert 'brax' not in sys.modules"]))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_only_reads_and_draws(path):
    cells = code_cells(path)
    # The page of answers has a cell for each page, beside its first sentence and its graph.
    most = 2 + len(answers.PAGES) if path.stem == "answers" else 12
    assert 1 <= len(cells) <= most
    for cell in cells:
        tree = ast.parse(cell.source)
        nodes = list(ast.walk(tree))
        assert not any(
            isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for n in nodes
        ), cell.source
        assert len(cell.source.splitlines()) <= 15, cell.source
        for item in imports_of(path, cell.source):
            top = item.name.split(".")[0]
            assert top in {"loptrl", "numpy", "IPython"}, item.name
            assert top != "loptrl" or part(item.name) in FOR_NOTEBOOKS, item.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_figure_has_a_name_a_caption_and_words_for_who_cannot_see_it(path):
    names = []
    for cell in code_cells(path):
        figure = cell.metadata.get("mystnb", {}).get("figure")
        # What a cell shows is a call: of a figure function, or of Markdown around some words.
        last = ast.parse(cell.source).body[-1]
        shows = isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)
        words = shows and ast.unparse(last.value.func) in {"Markdown", "print", "display"}
        assert bool(figure) == (shows and not words), f"a figure without its text: {cell.source}"
        if figure:
            names.append(figure["name"])
            assert len(figure["caption"]) > 40
            assert len(cell.metadata["mystnb"]["image"]["alt"]) > 40
            assert "hide-input" in cell.metadata["tags"]
    assert len(set(names)) == len(names)


def test_figure_names_are_the_book_s_own():
    names = [
        cell.metadata["mystnb"]["figure"]["name"]
        for path in NOTEBOOKS
        for cell in code_cells(path)
        if "figure" in cell.metadata.get("mystnb", {})
    ]
    assert len(set(names)) == len(names)


def test_notebooks_are_kept_as_text():
    kept = sorted(path.name for path in (repo_root() / "notebooks").iterdir() if path.is_file())
    assert kept == sorted(path.name for path in NOTEBOOKS)


def test_files_stay_short():
    for file in LIBRARY.rglob("*.py"):
        lines = len(file.read_text(encoding="utf-8").splitlines())
        assert lines <= 400, f"{file.name} has {lines} lines"
