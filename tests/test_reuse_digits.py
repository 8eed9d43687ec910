"""The ten-line loop of the reuse page, with weights that others trained."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from loptrl.optimizers import open_optimizer, optim4rl
from loptrl.paths import repo_root
from loptrl.weights import import_file

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
TRAINED = {
    "optim4rl/ant": ("optim4rl/meta_rl_ant_5.npz", lambda: optim4rl("ant")),
    "open/multi": ("open/multi_OPEN.npy", lambda: open_optimizer("multi", noise=False)),
    "open/breakout": ("open/breakout_OPEN.npy", lambda: open_optimizer("breakout", noise=False)),
}


def section():
    """The code blocks of the page's section on learned optimizers."""
    text = (repo_root() / "book" / "reuse.md").read_text(encoding="utf-8")
    part = text.split("## A learned optimizer in any training loop\n")[1].split("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", part, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def train():
    """The page's own function, from the block that defines it and nothing else of the page."""
    names = {}
    exec(section()[0], names)
    return names["train"]


def test_the_loop_has_ten_lines():
    (body,) = re.findall(r"^def train.*?(?=^\S|\Z)", section()[0], re.DOTALL | re.MULTILINE)
    assert len([line for line in body.splitlines() if line.strip()]) <= 10


def test_an_optax_optimizer_fits_the_same_loop(train):
    import optax

    losses = np.asarray(train(optax.with_extra_args_support(optax.adam(1e-3)), updates=50))
    assert losses.shape == (50,) and losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"other people's weights are not at {SHARED}")
def test_trained_weights_learn_the_digits(train, name, tmp_path, monkeypatch):
    file, make = TRAINED[name]
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    import_file(name, SHARED / file)
    losses = np.asarray(train(make()))
    assert np.isfinite(losses).all()
    # Measured: 1.18, 0.38 and 0.73 at last; 2.34 at first.
    assert losses[-1] < 0.6 * losses[0]
    assert losses[-1] < losses[len(losses) // 2]
