"""How far meta-training moved Optim4RL's weights from the untrained ones it began with."""

from __future__ import annotations

import numpy as np
import pandas as pd

from loptrl import status_page, weights
from loptrl.meta.config import MetaConfig
from loptrl.studies.by_hand import UNTRAINED
from loptrl.studies.optim4rl_response import responses
from loptrl.studies.words import listed

__all__ = ["moves", "table", "words"]

_FAMILY = "optim4rl/"
_SEED = 0
"""Of the untrained weights that are stored, and of the meta-trainings that began with them."""
_COLUMNS = [
    "weights",
    "meta learning rate",
    "meta-iterations",
    "largest move",
    "move",
    "step",
]


def moves() -> pd.DataFrame:
    """A row for each set of weights that was meta-trained here from the untrained ones.

    The columns: "weights", its name; "meta learning rate", the step size of the outer Adam;
    "meta-iterations"; "largest move" of a weight; "move", the root mean square move over the root
    mean square of the untrained weights; "step", of an agent's weight in an update, in units of
    alpha and for small gradients (`optim4rl_response.responses`). Those that moved least first;
    no row without the untrained weights.
    """
    rows = []
    for name in weights.names() if weights.available(f"{_FAMILY}{UNTRAINED}") else ():
        if not name.startswith(_FAMILY) or not weights.available(name):
            continue
        card = weights.card(name)
        config = card.get("config")
        if config is None or config["init"] is not None or card["seed"] != _SEED:
            continue
        training = MetaConfig.from_dict(config)
        start = _numbers(f"{_FAMILY}{UNTRAINED}")
        moved = _numbers(name) - start
        short = name.removeprefix(_FAMILY)
        rows.append(
            (
                short,
                training.meta_learning_rate,
                training.num_slices,
                float(np.abs(moved).max()),
                float(np.sqrt(np.mean(moved**2) / np.mean(start**2))),
                float(responses()[short][0]),
            )
        )
    return pd.DataFrame(rows, columns=_COLUMNS).sort_values("move", ignore_index=True)


def _numbers(name: str) -> np.ndarray:
    arrays = weights.load(name).arrays
    return np.concatenate([np.asarray(arrays[key], np.float64).ravel() for key in sorted(arrays)])


def _steps(found: pd.DataFrame) -> pd.Series:
    """The largest moves in units of the meta learning rate times the meta-iterations."""
    return found["largest move"] / (found["meta learning rate"] * found["meta-iterations"])


def table() -> str:
    """`moves` for a page; nothing without any."""
    found = moves()
    if found.empty:
        return ""
    shown = {
        "weights": found["weights"],
        "meta learning rate": [_short(rate) for rate in found["meta learning rate"]],
        "meta-iterations": found["meta-iterations"],
        "largest move": [f"{size:.2g}" for size in found["largest move"]],
        "over rate x iterations": [f"{ratio:.2f}" for ratio in _steps(found)],
        "move over size": [f"{100 * share:.2g} %" for share in found["move"]],
        "step, in α": [f"{length:.2f}" for length in found["step"]],
    }
    return status_page.as_markdown(pd.DataFrame(shown))


def words() -> str:
    """How far the least and the most moved of them are, by meta learning rate."""
    found = moves()
    if found.empty:
        return "No set of weights that was meta-trained here is at hand."
    parts = [
        f"by {100 * own.min():.2g} to {100 * own.max():.2g} % with a meta learning rate of "
        f"{_short(rate)}"
        for rate, own in found.groupby("meta learning rate")["move"]
    ]
    ratio = _steps(found)
    return (
        f"**Meta-training here moved Optim4RL's weights {listed(parts)}** (root mean square of the "
        "moves over that of the weights where it began). The largest move of one weight is "
        f"{ratio.min():.1f} to {ratio.max():.1f} times the meta learning rate times the number of "
        "meta-iterations."
    )


def _short(rate: float) -> str:
    return f"{rate:.0e}".replace("e-0", "e-")
