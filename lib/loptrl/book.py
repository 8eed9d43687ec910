"""From a notebook in text form and a few parameters to an executed page of the book.

jupytext reads the text, papermill runs it, and the page is written only when every cell ended
well: there is never a page of half a run. `execute_all` does it for the whole book.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from loptrl.book_site import build_list, check_site, toc_with_own_pages
from loptrl.devices import available_cores
from loptrl.errors import LoptrlError, NotebookError
from loptrl.files import atomic_write
from loptrl.notebook_parameters import Parameter, check_parameters, parse_cell
from loptrl.paths import repo_root

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["build_list", "execute", "execute_all", "executed_dir", "parameters"]

_PAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_START_TIMEOUT_S = 180
_AT_ONCE = 4  # kernels: each takes up to a gigabyte
_LABELS = (
    re.compile(r"^\(([\w-]+)\)=\s*$", re.MULTILINE),
    re.compile(r"^\$\$\s*\(([\w-]+)\)\s*$", re.MULTILINE),
    re.compile(r"^:(?:name|label):\s*([\w-]+)\s*$", re.MULTILINE),
)


def executed_dir() -> Path:
    """Where executed pages go; generated, not committed."""
    return repo_root() / "book" / "executed"


def parameters(notebook: Path | str) -> dict[str, Parameter]:
    """The parameters a notebook takes, by name.

    Raises:
        NotebookError: there is no such notebook, or its parameters cell cannot be read.
    """
    path = Path(notebook)
    return _declared(_read(path), path)


def execute(
    notebook: Path | str,
    parameters: Mapping[str, object] | None = None,
    *,
    to: str | None = None,
    timeout: float | None = None,
    output_dir: Path | None = None,
) -> Path:
    """Run a notebook with checked parameters and write the executed page.

    Args:
        notebook: a jupytext md:myst file.
        parameters: values by name, as text (as on a command line) or as JSON values; the others
            keep the notebook's defaults.
        to: the page's name, when it is not the notebook's own.
        timeout: seconds that one cell may take, or None for no limit.
        output_dir: folder of the page; `executed_dir()` by default.

    Returns:
        The executed page, ``output_dir/NAME.ipynb``.

    Raises:
        NotebookError: the notebook or a parameter is refused, a cell fails, or the kernel dies; no
            page is written then, and one that was there stays as it was.
        StoreError: the page could not be written.
    """
    path = Path(notebook)
    text = _read(path)
    values = check_parameters(_declared(text, path), parameters or {}, path.name)
    name = _page_name(path, to)
    if timeout is not None and not timeout > 0:
        raise NotebookError(f"The time limit of a cell must be positive, got {timeout}.")
    executed = _run(text, values, path.name, timeout)
    _clean(executed)
    if name != path.stem:
        _rename_labels(executed, name)
    page = (output_dir or executed_dir()) / f"{name}.ipynb"
    atomic_write(page, _serialise(executed))
    return page


def execute_all(
    notebooks: Iterable[Path] | None = None,
    parameters: Mapping[str, object] | None = None,
    *,
    timeout: float | None = None,
    output_dir: Path | None = None,
) -> list[Path]:
    """Run every notebook of the book, one a core, with the parameters that it declares.

    Args:
        notebooks: the notebooks; those of the table of contents by default.
        parameters: values by name; the book is built with the defaults, which train nothing.
        timeout: seconds that one cell may take.
        output_dir: folder of the pages; `executed_dir()` by default.

    Returns:
        The executed pages, in order.

    Raises:
        NotebookError: as `execute`, for the first in order that fails; what runs by then ends, and
            most others are not begun.
    """
    jobs = []
    for notebook in map(Path, build_list() if notebooks is None else notebooks):
        known = _declared(_read(notebook), notebook)
        own = {name: value for name, value in (parameters or {}).items() if name in known}
        jobs.append((notebook, own))
    # papermill and its event loops want a process each.
    most = min(available_cores(), _AT_ONCE)
    with ProcessPoolExecutor(most, multiprocessing.get_context("spawn")) as pool:
        pages = [
            pool.submit(execute, notebook, own, timeout=timeout, output_dir=output_dir)
            for notebook, own in jobs
        ]
        try:
            return [page.result() for page in pages]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _read(path: Path) -> NotebookNode:
    try:
        import jupytext
    except ModuleNotFoundError as error:
        raise NotebookError(
            f"Expected the tools that execute notebooks, found no {error.name}; "
            "pip install 'loptrl[book]' brings them."
        ) from None
    if path.suffix != ".md":
        raise NotebookError(
            f"Expected a notebook in text form such as notebooks/00_two_state_mdp.md, got {path}."
        )
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise NotebookError(f"Could not read the notebook {path}: {why}.") from None
    try:
        node = jupytext.reads(source, fmt="md:myst")
    except Exception as error:
        # jupytext raises many kinds; whichever it is, the file is no notebook.
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise NotebookError(f"{path} is not a jupytext md:myst notebook: {last}") from None
    if "kernelspec" not in node.metadata:
        raise NotebookError(
            f"{path} is not a jupytext md:myst notebook: its header names no kernelspec."
        )
    for index, cell in enumerate(node.cells):
        cell["id"] = f"cell-{index}"
    return node


def _declared(node: NotebookNode, path: Path) -> dict[str, Parameter]:
    cells = [cell for cell in node.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) > 1:
        raise NotebookError(f"{path.name} has {len(cells)} parameters cells: keep one.")
    return parse_cell(cells[0].source, path.name) if cells else {}


def _page_name(path: Path, to: str | None) -> str:
    if to is None:
        return path.stem
    if not _PAGE_NAME.fullmatch(to):
        raise NotebookError(
            f"The page's name must be letters, digits, - and _ (80 at most), got {to!r}."
        )
    if to != path.stem and (path.parent / f"{to}.md").exists():
        raise NotebookError(f"The page's name {to} belongs to another notebook: choose another.")
    return to


def _run(
    node: NotebookNode, values: Mapping[str, object], name: str, timeout: float | None
) -> NotebookNode:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        with _quiet_logger():
            return papermill.execute_notebook(
                node,
                None,
                parameters=dict(values),
                cwd=str(repo_root()),
                progress_bar=False,
                stderr_file=sys.stderr,
                start_timeout=_START_TIMEOUT_S,
                execution_timeout=timeout,
                # Without it every kernel writes notices of its own to stderr.
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
    except PapermillExecutionError as error:
        raise NotebookError(
            f"{name}: {_cell(error.source, error.cell_index)} failed with {_last_line(error)}"
        ) from None
    except DeadKernelError:
        raise NotebookError(
            f"{name}: the kernel died before the notebook ended (out of memory, or killed); "
            "no page was written."
        ) from None
    except CellTimeoutError:
        raise NotebookError(
            f"{name}: a cell took longer than the limit of {timeout:g} s; no page was written."
        ) from None
    except Exception as error:
        # The kernel could not be started, or broke in a way nbclient has no name for.
        last = (str(error).strip().splitlines() or [""])[-1]
        raise NotebookError(f"{name} could not be run: {type(error).__name__}: {last}") from error


@contextmanager
def _quiet_logger():
    """Keep nbclient's own report of a failing cell off the terminal: ours is one sentence."""
    import logging

    loggers = [logging.getLogger(name) for name in ("papermill", "traitlets")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _cell(source: str, index: int) -> str:
    line = next((line for line in source.splitlines() if line.strip()), "")
    return f"cell {index + 1} ({line.strip()[:60]!r})"


def _last_line(error: object) -> str:
    lines = str(error.evalue).strip().splitlines()
    return f"{error.ename}: {lines[-1]}" if lines else f"{error.ename}."


def _clean(node: NotebookNode) -> None:
    """Make the page the same whoever ran it, whenever and wherever."""
    here = str(repo_root())
    kept = {
        key: node.metadata[key] for key in ("kernelspec", "language_info") if key in node.metadata
    }
    # The interpreter's patch version would differ from machine to machine.
    kept.get("language_info", {}).pop("version", None)
    node.metadata.clear()
    node.metadata.update(kept)
    for index, cell in enumerate(node.cells):
        cell["id"] = f"cell-{index}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags and "hide-input" not in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
        if cell.cell_type != "code":
            continue
        # Progress and library notices went to the terminal while the cell ran.
        cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
        for output in cell.outputs:
            _hide_path(output, here)


def _hide_path(output: NotebookNode, here: str) -> None:
    if "text" in output:
        output["text"] = output["text"].replace(here, ".")
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(content, str):
            output["data"][kind] = content.replace(here, ".")


def _rename_labels(node: NotebookNode, name: str) -> None:
    """Give a page's figures and targets names of its own, beside the page it was made from."""
    labels = set()
    for cell in node.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "name" in figure:
            labels.add(figure["name"])
        if cell.cell_type == "markdown":
            for pattern in _LABELS:
                labels.update(pattern.findall(cell.source))
    for cell in node.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if "name" in figure:
            figure["name"] = f"{figure['name']}-{name}"
        if cell.cell_type == "markdown":
            for label in labels:
                pattern = rf"(?<![\w-]){re.escape(label)}(?![\w-])"
                cell.source = re.sub(pattern, f"{label}-{name}", cell.source)
    for cell in node.cells:
        if cell.cell_type == "markdown" and re.search(r"^# ", cell.source, re.MULTILINE):
            cell.source = re.sub(
                r"^# (.*)$", rf"# \1 ({name})", cell.source, count=1, flags=re.MULTILINE
            )
            break


def _serialise(node: NotebookNode) -> bytes:
    import nbformat

    return (nbformat.writes(node, version=4) + "\n").encode()


def main(arguments: list[str] | None = None) -> int:
    """What the Makefile calls: execute the notebooks, or check the pages that were built."""
    parser = argparse.ArgumentParser(prog="python -m loptrl.book", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("execute", help="run every notebook from committed results")
    run.add_argument("toc", type=Path, help="table of contents to write for the build")
    check = commands.add_parser("check", help="check the built pages")
    check.add_argument("html", type=Path)
    check.add_argument("toc", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "execute":
            for page in execute_all():
                print(f"executed {page.stem}")
            for name in toc_with_own_pages(options.toc):
                print(f"with your own page {name}")
        else:
            count = check_site(options.html, options.toc)
            print(f"All {count} pages of the book are built; none asks an outside address.")
    except LoptrlError as error:
        print(f"loptrl: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
