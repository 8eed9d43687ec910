"""Executing notebooks for real: pages appear whole or not at all, and always the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import nbformat
import pytest

from faults import FaultyOs
from loptrl import book, book_site, files
from loptrl.errors import LoptrlError, NotebookError, StoreError
from loptrl.paths import repo_root

HEADER = """\
---
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

"""
PAGE = (
    HEADER
    + """\
# A page

(part-one)=
## Part one

See {ref}`part-one`, {numref}`fig-one` and {numref}`fig-one-b`.

```{code-cell} ipython3
---
tags: [parameters]
---
seeds: int = 2  # how many, in [1, 9]
word: str = "a"
```

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-one
    caption: One.
tags: [hide-input]
---
import os, sys
print(seeds, word, os.getcwd())
print("pro" + "gress", file=sys.stderr)
```
"""
)


@pytest.fixture
def write(tmp_path, library_path):
    """Writes a notebook into its own folder."""
    folder = tmp_path / "notebooks"
    folder.mkdir()

    def make(text, name="page.md"):
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path

    return make


def code_page(source):
    return HEADER + "```{code-cell} ipython3\n" + textwrap.dedent(source) + "\n```\n"


def test_a_page_with_parameters(write, tmp_path, capfd):
    path = write(PAGE)
    page = book.execute(path, {"seeds": "3", "word": "b c"}, to="my_page", output_dir=tmp_path)
    assert page == tmp_path / "my_page.ipynb"
    text = page.read_text(encoding="utf-8")
    node = nbformat.reads(text, as_version=4)
    nbformat.validate(node)

    injected = [c for c in node.cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert [c.metadata["tags"] for c in injected] == [["injected-parameters", "hide-input"]]
    (output,) = node.cells[-1].outputs
    assert output["text"] == "3 b c .\n"  # the repository root, without its address

    # What is ours to say stays; when, where and by whom it was run does not.
    assert str(repo_root()) not in text and str(tmp_path) not in text
    assert set(node.metadata) == {"kernelspec", "language_info"}
    assert "version" not in node.metadata["language_info"]
    assert not any("papermill" in c.metadata or "execution" in c.metadata for c in node.cells)
    assert "progress" not in text
    assert "progress" in capfd.readouterr().err

    # A page beside its original must not share a name with it.
    assert node.cells[-1].metadata["mystnb"]["figure"]["name"] == "fig-one-my_page"
    prose = node.cells[0].source
    assert prose.startswith("# A page (my_page)")
    assert "(part-one-my_page)=" in prose and "{ref}`part-one-my_page`" in prose
    assert "{numref}`fig-one-my_page`" in prose and "{numref}`fig-one-b`" in prose

    # The same call gives the same bytes.
    first = page.read_bytes()
    book.execute(path, {"seeds": 3, "word": "b c"}, to="my_page", output_dir=tmp_path)
    assert page.read_bytes() == first


def test_without_parameters_names_stay(write, tmp_path):
    page = book.execute(write(PAGE), output_dir=tmp_path)
    node = nbformat.read(page, as_version=4)
    assert page.name == "page.ipynb"
    assert node.cells[-1].metadata["mystnb"]["figure"]["name"] == "fig-one"
    assert node.cells[-1].outputs[0]["text"] == "2 a .\n"


def test_all_pages_of_the_book_side_by_side(write, tmp_path):
    paths = [write(PAGE, "b.md"), write(code_page("print(1 + 1)"), "a.md")]
    found = book.execute_all(paths, {"seeds": 5}, output_dir=tmp_path)
    assert found == [tmp_path / "b.ipynb", tmp_path / "a.ipynb"]
    last, only = (nbformat.read(page, as_version=4).cells[-1].outputs[0] for page in found)
    assert last["text"].startswith("5 ") and only["text"] == "2\n", "each has what it declares"
    wrong = write(code_page("1 / 0"), "wrong.md")
    with pytest.raises(NotebookError, match=r"wrong\.md: cell .* failed with ZeroDivisionError"):
        book.execute_all([wrong, paths[1]], output_dir=tmp_path)
    assert not (tmp_path / "wrong.ipynb").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "1 + 1\nraise ValueError('no\\nsuch arm')",
            r"cell 1 \('1 \+ 1'\) failed with ValueError: such arm",
        ),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel died"),
        ("import sys\nsys.exit(3)", "failed with SystemExit: 3"),
    ],
)
def test_a_failing_notebook_leaves_no_page(write, tmp_path, source, message):
    out = tmp_path / "out"
    out.mkdir()
    (out / "page.ipynb").write_text("the page of yesterday")
    with pytest.raises(NotebookError, match=message) as caught:
        book.execute(write(code_page(source)), output_dir=out)
    assert "\n" not in str(caught.value)
    assert [p.name for p in out.iterdir()] == ["page.ipynb"]
    assert (out / "page.ipynb").read_text() == "the page of yesterday"


def test_a_cell_that_takes_too_long(write, tmp_path):
    path = write(code_page("import time\ntime.sleep(60)"))
    with pytest.raises(NotebookError, match="longer than the limit of 1 s"):
        book.execute(path, timeout=1, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parameters", "to", "message"),
    [
        ({"sedes": 3}, None, "has no parameter sedes: it knows seeds, word"),
        ({"seeds": "three"}, None, "must be a whole number"),
        ({"seeds": "0"}, None, r"must lie in \[1, 9\]"),
        ({}, "../escape", "page's name must be letters"),
        ({}, "", "page's name must be letters"),
        ({}, "x" * 81, "page's name must be letters"),
        ({}, "other", "belongs to another notebook"),
    ],
)
def test_refused_before_anything_runs(write, tmp_path, monkeypatch, parameters, to, message):
    monkeypatch.setattr(book, "_run", lambda *_: pytest.fail("it was run"))
    write(PAGE, "other.md")
    with pytest.raises(NotebookError, match=message):
        book.execute(write(PAGE), parameters, to=to, output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_time_limit_must_be_positive(write, timeout):
    with pytest.raises(NotebookError, match="must be positive"):
        book.execute(write(PAGE), timeout=timeout)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("page.ipynb", b"{}", "Expected a notebook in text form"),
        ("page.md", b"# Only prose\n", "names no kernelspec"),
        ("page.md", b"\xff\xfe\x00", "not UTF-8"),
        ("page.md", (PAGE + PAGE.split("---\n\n", 1)[1]).encode(), "2 parameters cells"),
        (
            "page.md",
            HEADER.encode() + b"```{code-cell} ipython3\n---\ntags: [\n---\n```\n",
            "not a jup",
        ),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(NotebookError, match=message):
        book.execute(path, output_dir=tmp_path / "out")


def test_a_missing_notebook_is_refused(tmp_path):
    with pytest.raises(NotebookError, match="Could not read the notebook"):
        book.execute(tmp_path / "nowhere.md")


@pytest.mark.parametrize("function", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_no_page(write, tmp_path, monkeypatch, function):
    monkeypatch.setattr(book, "_run", lambda node, *_: node)
    monkeypatch.setattr(files, "os", FaultyOs(function))
    out = tmp_path / "out"
    with pytest.raises(StoreError, match="No space left"):
        book.execute(write(PAGE), output_dir=out)
    assert list(out.iterdir()) == []


def test_papermill_alone_can_run_the_chapter(tmp_path, library_path):
    import jupytext
    import papermill

    notebook = repo_root() / "notebooks" / "00_two_state_mdp.md"
    converted = tmp_path / "chapter.ipynb"
    jupytext.write(jupytext.read(notebook), converted)
    known = papermill.inspect_notebook(str(converted))
    assert set(known) == set(book.parameters(notebook))
    papermill.execute_notebook(
        str(converted),
        str(tmp_path / "run.ipynb"),
        parameters={"seeds": 1, "quiet_updates": 60},
        progress_bar=False,
        cwd=str(tmp_path),
    )
    done = json.loads((tmp_path / "run.ipynb").read_text())
    images = [
        o for c in done["cells"] for o in c.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(images) == 4


def test_every_notebook_of_the_book_declares_what_papermill_sees():
    import jupytext
    import papermill

    for path in book.build_list():
        seen = papermill.inspect_notebook(jupytext.read(path))
        assert set(seen) == set(book.parameters(path)), path.name


def test_the_makefile_s_command_reports_errors(tmp_path, library_path):
    (tmp_path / "html").mkdir()
    toc = tmp_path / "toc.yml"
    toc.write_text("format: jb-book\nroot: book/index\n")
    done = subprocess.run(
        [sys.executable, "-m", "loptrl.book", "check", str(tmp_path / "html"), str(toc)],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 2
    assert done.stderr == "loptrl: The book was built without book/index.\n"


# --- the site ---------------------------------------------------------------------------------


def test_every_page_of_the_table_exists():
    root = repo_root()
    for page in book_site.pages():
        if not page.startswith("book/executed/"):
            assert (root / f"{page}.md").is_file(), page
    names = [path.stem for path in book_site.build_list()]
    assert "00_two_state_mdp" in names and "status" in names
    assert all((root / "notebooks" / f"{name}.md").is_file() for name in names)


def test_a_missing_notebook_of_the_table_is_named(tmp_path):
    toc = tmp_path / "toc.yml"
    toc.write_text("root: book/executed/99_nothing\n")
    with pytest.raises(NotebookError, match=r"99_nothing\.md is missing"):
        book_site.build_list(toc)


def test_own_pages_join_the_table(tmp_path, monkeypatch):
    root = tmp_path / "root"
    (root / "book" / "executed").mkdir(parents=True)
    (root / "_toc.yml").write_text(
        "root: book/index\nparts:\n- chapters:\n  - file: book/executed/a\n"
    )
    for name in ("a", "mine"):
        (root / "book" / "executed" / f"{name}.ipynb").touch()
    monkeypatch.setattr(book_site, "repo_root", lambda: root)
    output = tmp_path / "out" / "toc.yml"
    assert book_site.toc_with_own_pages(output) == ["book/executed/mine"]
    assert book_site.pages(output) == ["book/index", "book/executed/a", "book/executed/mine"]


def test_a_missing_page_and_an_outside_address_are_noticed(tmp_path):
    toc = tmp_path / "toc.yml"
    toc.write_text("root: book/index\nchapters:\n- file: book/limits\n")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.html").write_text('<a href="https://example.org">paper</a>')
    with pytest.raises(NotebookError, match=r"built without book/limits\."):
        book_site.check_site(tmp_path, toc)
    (tmp_path / "book" / "limits.html").write_text("<p>")
    assert book_site.check_site(tmp_path, toc) == 2
    (tmp_path / "book" / "limits.html").write_text("<script src=//cdn.example.org/x.js></script>")
    with pytest.raises(NotebookError, match=r"limits\.html asks //cdn\.example\.org/x\.js"):
        book_site.check_site(tmp_path, toc)


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', 1),
        ('<link rel="stylesheet" href="http://example.org/x.css">', 1),
        ('<link rel="preconnect" href="https://example.org">', 1),
        ('<img src="//example.org/x.png">', 1),
        ('<iframe src="HTTPS://example.org"></iframe>', 1),
        ('<a href="https://example.org">x</a><link rel="canonical" href="https://example.org">', 0),
        ('<img src="data:image/png;base64,AA"><script src="../_static/x.js"></script>', 0),
    ],
)
def test_outside_requests(html, count):
    assert len(book_site.outside_requests(html)) == count


def test_errors_of_the_book_are_user_errors():
    assert issubclass(NotebookError, LoptrlError)
