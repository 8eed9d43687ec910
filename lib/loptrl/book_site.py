"""The book as a site: what its table of contents names, and whether the built pages hold up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from loptrl.errors import NotebookError
from loptrl.files import atomic_write
from loptrl.paths import repo_root

__all__ = ["build_list", "check_site", "outside_requests", "pages", "toc_with_own_pages"]

_EXECUTED = "book/executed/"
_OUTSIDE = re.compile(r"(https?:)?//", re.IGNORECASE)
# Elements whose address a browser fetches by itself, and the attribute that holds it.
_FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "audio": ("src",),
    "video": ("src", "poster"),
    "source": ("src", "srcset"),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
}
_FETCHED_RELATIONS = {
    "dns-prefetch",
    "icon",
    "manifest",
    "modulepreload",
    "preconnect",
    "prefetch",
    "preload",
    "stylesheet",
}


def pages(toc: Path | None = None) -> list[str]:
    """The names of all pages in the table of contents, in order, without suffix.

    Raises:
        NotebookError: the table cannot be read.
    """
    import yaml

    path = toc or repo_root() / "_toc.yml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise NotebookError(f"Could not read the table of contents {path}: {error}.") from None
    return list(_files(content))


def build_list(toc: Path | None = None) -> list[Path]:
    """The notebooks that the table of contents shows as executed pages, in order.

    Raises:
        NotebookError: the table names a page whose notebook does not exist.
    """
    found = []
    for page in pages(toc):
        if not page.startswith(_EXECUTED):
            continue
        notebook = repo_root() / "notebooks" / f"{page.removeprefix(_EXECUTED)}.md"
        if not notebook.is_file():
            raise NotebookError(
                f"The table of contents names {page}, whose notebook {notebook.name} is missing."
            )
        found.append(notebook)
    return found


def toc_with_own_pages(output: Path) -> list[str]:
    """Write a table of contents that also shows the pages a reader executed, and name them.

    Args:
        output: file to write; the committed table plus a part named "Your own runs".
    """
    import yaml

    root = repo_root()
    content = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    known = set(_files(content))
    found = sorted((root / _EXECUTED).glob("*.ipynb"))
    own = [page for page in (f"{_EXECUTED}{path.stem}" for path in found) if page not in known]
    if own:
        part = {"caption": "Your own runs", "chapters": [{"file": page} for page in own]}
        content["parts"] = [*content["parts"], part]
    atomic_write(output, yaml.safe_dump(content, sort_keys=False).encode())
    return own


def check_site(html: Path, toc: Path | None = None) -> int:
    """Check that every page was built and that none asks an outside address for anything.

    Args:
        html: the folder of built pages.
        toc: the table of contents; the committed one by default.

    Returns:
        The number of pages in the table.

    Raises:
        NotebookError: a page is missing, or a page fetches something from outside.
    """
    names = pages(toc)
    missing = [name for name in names if not (html / f"{name}.html").is_file()]
    if missing:
        raise NotebookError(f"The book was built without {', '.join(missing)}.")
    for page in sorted(html.rglob("*.html")):
        if asked := outside_requests(page.read_text(encoding="utf-8")):
            raise NotebookError(
                f"{page.relative_to(html)} asks {asked[0]} for something: keep a copy in the book."
            )
    return len(names)


def outside_requests(html: str) -> list[str]:
    """Addresses outside the site that a browser would fetch when it opens this page.

    Links to follow are not among them; scripts, style sheets, images and frames are.
    """
    parser = _Fetches()
    parser.feed(html)
    return parser.found


class _Fetches(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        names = _FETCHED.get(tag, ())
        if tag == "link" and _FETCHED_RELATIONS & set((given.get("rel") or "").lower().split()):
            names = ("href",)
        for name in names:
            address = (given.get(name) or "").strip()
            if _OUTSIDE.match(address):
                self.found.append(address)


def _files(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("root", "file"):
                yield str(value).removesuffix(".md").removesuffix(".ipynb")
            else:
                yield from _files(value)
    elif isinstance(node, list):
        for item in node:
            yield from _files(item)
