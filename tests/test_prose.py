"""The prose pages: their code runs, their references exist, and no page asks an outside address."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loptrl import book, book_site
from loptrl.paths import repo_root

ROOT = repo_root()
PAGES = [ROOT / f"{name}.md" for name in book_site.pages() if "executed" not in name]
NOTEBOOKS = book_site.build_list()
TEXTS = [*PAGES, *NOTEBOOKS]
BUILD = "from jupyter_book.cli.main import main; main()"


def name(path: Path) -> str:
    return path.stem


def test_the_code_of_the_reuse_page_runs(tmp_path, library_path):
    text = (ROOT / "book" / "reuse.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    notebook = ROOT / "notebooks" / "00_two_state_mdp.md"
    script = tmp_path / "page.py"
    script.write_text("\n".join([f"notebook = {str(notebook)!r}", *blocks]), encoding="utf-8")
    shutil.copytree(ROOT / "data" / "weights", tmp_path / "data" / "weights")
    environment = {**os.environ, "LOPTRL_DATA": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert "True 6000000.0" in printed  # the collapse of the example
    assert "(3, 20)" in printed  # three seeds, twenty rows
    for arm in ("still", "changing"):  # two seeds, a random policy and eight evaluations
        assert f"{arm} (2, 9) True" in printed
    assert (tmp_path / "learning_curve.png").stat().st_size > 10_000
    assert (tmp_path / "drift.png").stat().st_size > 10_000
    (learned,) = re.findall(r"^2048 (\S+)$", printed, re.MULTILINE)
    assert float(learned) > 1.95  # 1.75 untrained; the best possible is the friction, 2
    assert "loptrl run adam_collapse --budget laptop --arm adam --seeds 2" in printed
    digits = dict(re.findall(r"^(\w+): loss \S+ at first, (\S+) at last$", printed, re.M))
    assert set(digits) == {"optim4rl", "open", "velo"}
    # Ten classes: 2.3 at first. Measured: 0.12, 0.004, and 0.2 to 0.5 by the order of sums.
    bounds = {"optim4rl": 0.5, "open": 0.5, "velo": 1.0}
    assert all(float(digits[name]) < bound for name, bound in bounds.items()), digits


def test_the_methods_page_says_what_the_configuration_does():
    from loptrl.ppo.config import PPOConfig

    text = (ROOT / "book" / "methods.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", text, re.MULTILINE))
    config = PPOConfig()
    width = f"{len(config.hidden)}x{config.hidden[0]} {config.activation}"
    assert table["environments"] == f"{config.num_envs}"
    assert table["steps per rollout"] == f"{config.rollout_length}"
    assert table["epochs x minibatches"] == f"{config.epochs} x {config.minibatches}"
    assert table["networks"] == width
    assert table["physics backend"] == config.backend
    assert float(table["learning rate of Adam"]) == config.optimizer.learning_rate
    assert table["discount, lambda"] == f"{config.discount:g}, {config.gae_lambda:g}"
    assert table["ratio clip"] == f"{config.clip_ratio:g}"
    assert float(table["entropy bonus"]) == config.entropy_coef
    assert table["gradient clip"] == f"norm {config.max_grad_norm:g}"
    assert config.normalize_observations and config.normalize_rewards
    assert f"every {config.env_steps_per_slice:,} environment steps" in text
    assert f"plays {config.eval_envs} episodes" in text


def test_every_citation_has_its_entry_and_every_entry_is_cited():
    entries = re.findall(
        r"^@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text(), re.MULTILINE
    )
    assert len(set(entries)) == len(entries)
    cited = set()
    for path in TEXTS:
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text(encoding="utf-8")):
            cited.update(part.strip() for part in group.split(","))
    assert cited == set(entries)


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_links_between_pages_lead_somewhere(path):
    known = set(book_site.pages())
    for target in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", path.read_text(encoding="utf-8")):
        folder = ROOT / "book" / ("executed" if path in NOTEBOOKS else "")
        page = os.path.relpath(os.path.normpath(folder / target), ROOT)
        assert page in known, f"{path.name} links {target}"


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_the_first_screen_holds_the_answer(path):
    """One title, and before the second heading a bold sentence, a table or something computed."""
    body = path.read_text(encoding="utf-8").split("---\n", 2)[-1]
    assert len(re.findall(r"^# ", body, re.MULTILINE)) == 1
    first = re.split(r"^## ", body, maxsplit=1, flags=re.MULTILINE)[0]
    assert "**" in first or "Markdown(" in first or "bibliography" in first
    assert not re.search(r"\b(TODO|FIXME|TBD|lorem)\b", body, re.IGNORECASE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_chapter_with_parameters_says_how_to_run_it_again(path):
    parameters = book.parameters(path)
    text = path.read_text(encoding="utf-8")
    if not parameters:
        return
    (command,) = re.findall(r"^loptrl execute \S+ (.*)$", text, re.MULTILINE)
    assert f"notebooks/{path.name}" in text and "--to " in command
    given = dict(pair.split("=") for pair in re.findall(r"-p (\S+)", command))
    assert given
    for parameter, value in given.items():
        assert parameters[parameter].parse(value) is not None
    listed = re.findall(r"`(\w+)`", text[text.index("\nParameters: ") :].splitlines()[1])
    assert set(listed) == set(parameters)


def test_the_commands_on_prose_pages_are_right():
    """`loptrl execute` lines name notebooks and parameters that exist."""
    for path in [*PAGES, ROOT / "README.md"]:
        for line in re.findall(r"^loptrl execute (.*)$", path.read_text(), re.MULTILINE):
            notebook, *rest = line.split("#")[0].split()
            declared = book.parameters(ROOT / notebook)
            for pair in re.findall(r"-p (\S+)", " ".join(rest)):
                key, _, value = pair.partition("=")
                declared[key].parse(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The book, built for real, with notebooks that were not executed."""
    import jupytext

    root = tmp_path_factory.mktemp("site")
    for item in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / item, root)
    shutil.copytree(ROOT / "book", root / "book", ignore=shutil.ignore_patterns("executed"))
    (root / "book" / "executed").mkdir()
    for path in NOTEBOOKS:
        jupytext.write(jupytext.read(path), root / "book" / "executed" / f"{path.stem}.ipynb")
    # What a root source must not pick up as pages.
    for stray in (
        ".venv/lib/x/README.md",
        "lib/notes.md",
        "data/README.md",
        "README.md",
        ".x/y.md",
    ):
        (root / stray).parent.mkdir(parents=True, exist_ok=True)
        (root / stray).write_text("# Stray\n")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, "build", "-q", "-n", "--keep-going", str(root)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return root / "_build" / "html", done.stderr


def test_the_book_is_built_completely_and_asks_nobody(site):
    html, _ = site
    assert book_site.check_site(html) == len(book_site.pages())


def test_prose_builds_without_a_warning(site):
    _, errors = site
    # Figures of notebooks that were not executed are not there to be referred to.
    lines = [line for line in errors.splitlines() if "WARNING" in line and "executed" not in line]
    assert lines == []


def test_only_the_table_s_pages_are_built(site):
    html, _ = site
    built = {str(p.relative_to(html).with_suffix("")) for p in html.rglob("*.html")}
    extra = built - set(book_site.pages()) - {"index", "search", "genindex"}
    assert not {page for page in extra if not page.startswith("_")}


def test_mathematics_is_served_from_the_book_itself(site):
    html, _ = site
    page = (html / "book" / "reading_graphs.html").read_text(encoding="utf-8")
    source = re.search(r'src="([^"]*mathjax[^"]*)"', page)
    assert source
    script = (html / "book" / source[1].split("?")[0]).resolve()
    assert script.is_file() and script.is_relative_to(html)


def test_style_sheets_ask_nobody(site):
    html, _ = site
    for sheet in html.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8", errors="replace")
        assert not re.search(r"""(@import\s+(url\()?|url\()\s*['"]?(https?:)?//""", text), sheet
