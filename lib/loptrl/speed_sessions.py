"""What `loptrl bench --to` stored under `data/speed`: one file for each session, without jax."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from loptrl.errors import LoptrlError
from loptrl.paths import data_dir

__all__ = ["Session", "sessions"]

_COLUMNS = ["env_steps_per_s", "devices", "peak_memory_gib"]


class Session(NamedTuple):
    """Measurements made one after another, whose ratios mean something.

    Attributes:
        made: when and on what.
        table: `what`, `env_steps_per_s`, `devices`, `peak_memory_gib` and `packages` (those that
            others' code ran with; empty for ours), a row a measurement.
    """

    made: str
    table: pd.DataFrame

    def rates(self) -> dict[str, list[float]]:
        """Env steps per second of each round, by name."""
        by_name = self.table.groupby("what", sort=False)["env_steps_per_s"]
        return {str(name): list(rates) for name, rates in by_name}

    def packages(self, name: str) -> str:
        """What others' code ran with, such as "jax 0.4.13 and gymnax 0.0.6"; empty for ours."""
        return str(self.table.loc[self.table["what"] == name, "packages"].iloc[0])


def sessions(folder: Path | None = None) -> list[Session]:
    """Every stored session, in the order of their files' names.

    Args:
        folder: of the files; default `data/speed`.

    Raises:
        LoptrlError: a file is not one that `loptrl bench --to` writes.
    """
    folder = data_dir() / "speed" if folder is None else folder
    return [_read(path) for path in sorted(folder.glob("*.csv"))]


def _read(path: Path) -> Session:
    try:
        made = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        table = pd.read_csv(path, comment="#", keep_default_na=False)
        kinds = dict.fromkeys(_COLUMNS, float) | {"devices": int, "packages": str}
        table = table.astype(kinds)[["what", *kinds]]
    except (ValueError, KeyError, OSError) as error:
        raise LoptrlError(
            f"expected measurements as `loptrl bench --to` writes them in {path}, got {error!r}; "
            "measure again"
        ) from error
    rounds = table.groupby("what").size().unique()
    if len(rounds) != 1:
        raise LoptrlError(
            f"expected as many measurements of one name as of another in {path}, got "
            f"{len(table)} rows; measure again"
        )
    return Session(made, table)
