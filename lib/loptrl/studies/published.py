"""Numbers that others published, each file with its source in its first lines."""

from __future__ import annotations

import functools

import pandas as pd

from loptrl.errors import LoptrlError
from loptrl.paths import reference_dir

__all__ = ["published"]


@functools.cache
def published(name: str) -> pd.DataFrame:
    """A table of `data/reference`, such as "official_runs.csv".

    Raises:
        LoptrlError: it is not there or cannot be read.
    """
    path = reference_dir() / name
    try:
        return pd.read_csv(path, comment="#")
    except (OSError, ValueError) as error:
        raise LoptrlError(
            f"expected published numbers in {path}, got {error}; restore the file"
        ) from error
