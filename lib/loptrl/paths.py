"""Where things are. Nothing here makes a folder; LOPTRL_DATA and LOPTRL_CACHE override."""

from __future__ import annotations

import os
from pathlib import Path

from loptrl.errors import LoptrlError

__all__ = [
    "cache_dir",
    "data_dir",
    "official_dir",
    "reference_dir",
    "repo_root",
    "results_dir",
    "weights_dir",
]


def repo_root() -> Path:
    """The checkout this library belongs to.

    It is the folder above ``lib/`` for an editable install, else the nearest one at or above the
    current folder that looks like a checkout.

    Raises:
        LoptrlError: there is none.
    """
    here = Path(__file__).resolve()
    for folder in (here.parents[2], *_upwards(Path.cwd())):
        if _is_checkout(folder):
            return folder
    raise LoptrlError(
        f"Expected a checkout of loptrl at or above {Path.cwd()}, found none; "
        "change into one, or set LOPTRL_DATA to the folder that holds results/."
    )


def data_dir() -> Path:
    """The folder of ``results/``, ``weights/``, ``reference/``: LOPTRL_DATA, else ``data/``."""
    return _from_environment("LOPTRL_DATA") or repo_root() / "data"


def results_dir() -> Path:
    """The committed runs."""
    return data_dir() / "results"


def weights_dir() -> Path:
    """The optimizers that were meta-trained here."""
    return data_dir() / "weights"


def official_dir() -> Path | None:
    """LOPTRL_WEIGHTS: a folder of other people's weight files, for machines without a network."""
    return _from_environment("LOPTRL_WEIGHTS")


def reference_dir() -> Path:
    """Published numbers, each with its source."""
    return data_dir() / "reference"


def cache_dir() -> Path:
    """Scratch that can be deleted at any time: checkpoints, locks, compiled programs.

    LOPTRL_CACHE, else ``$XDG_CACHE_HOME/loptrl``, else ``~/.cache/loptrl``.
    """
    chosen = _from_environment("LOPTRL_CACHE")
    if chosen is not None:
        return chosen
    # The XDG rules say that a relative value is to be ignored.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(xdg) if os.path.isabs(xdg) else Path.home() / ".cache"
    return base / "loptrl"


def _from_environment(name: str) -> Path | None:
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    path = Path(text).expanduser().absolute()
    if path.exists() and not path.is_dir():
        raise LoptrlError(f"Expected {name} to name a folder, {path} is a file; name a folder.")
    return path


def _upwards(folder: Path) -> tuple[Path, ...]:
    return (folder, *folder.parents)


def _is_checkout(folder: Path) -> bool:
    return (folder / "lib" / "loptrl" / "paths.py").is_file()
