"""The learned optimizers under short names, with trained weights: `optim4rl("ant")`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import optax

from loptrl import weights as stored
from loptrl.errors import LoptrlError
from loptrl.optimizers import open as open_rule
from loptrl.optimizers import optim4rl as optim4rl_rule
from loptrl.optimizers import velo as velo_rule

__all__ = ["LEARNED", "LearnedOptimizer"]


@dataclasses.dataclass(frozen=True)
class LearnedOptimizer:
    """A learned rule: called with the name or the path of weights, it gives the transformation.

    Attributes:
        family: what a card of its weights says.
        init_theta: `init_theta(key, ...)`, untrained weights.
        build: `build(theta, ...)`, the transformation; theta may be traced.
        default: the weights taken when none are named, or None.
    """

    family: str
    init_theta: Callable[..., Any]
    build: Callable[..., optax.GradientTransformationExtraArgs]
    default: str | None = None

    def __call__(
        self, name: str | Path | None = None, **options: Any
    ) -> optax.GradientTransformationExtraArgs:
        """The transformation with trained weights; options as `build` takes them.

        What the weights' card says of options, such as the flags that VeLO's were trained with,
        holds where no others are given.

        Raises:
            LoptrlError: no weights are named, they are not there, or they are of another rule.
        """
        found = self._load(name)
        return self.build(_theta(found), **{**found.card.get("options", {}), **options})

    def theta(self, name: str | Path | None = None) -> Any:
        """The trained weights of that name or path, as `build` takes them.

        Raises:
            LoptrlError: no weights are named, they are not there, or they are of another rule.
        """
        return _theta(self._load(name))

    def save(self, path: str | Path, theta: Any, **card: Any) -> None:
        """Keep weights as an .npz with a JSON card, for a call with that path.

        Args:
            path: a file NAME.npz.
            theta: as `build` takes it.
            **card: what else the card says, in JSON types, such as `trained_on` in words or
                `options`, arguments of `build` that hold where no others are given.

        Raises:
            WeightsError: the file is not called .npz, a number is not finite, or the card is no
                JSON.
            StoreError: the disk refuses.
        """
        stored.save(path, _arrays(theta), {**card, "family": self.family})

    def _load(self, name: str | Path | None) -> stored.Weights:
        name = self.default if name is None else name
        if name is None:
            raise LoptrlError(f"expected the name or the path of weights for {self.family}")
        return stored.load(name, family=self.family)


def _theta(found: stored.Weights) -> Any:
    if set(found.arrays) == {"vector"}:
        return open_rule.theta_from_vector(found.arrays["vector"])
    tree: dict[str, Any] = {}
    for path, value in found.arrays.items():
        *folders, last = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last] = jnp.asarray(value)
    return tree


def _arrays(theta: Any, prefix: str = "") -> dict[str, Any]:
    """The inverse of `_theta`: arrays by path, such as "rnn1/hn/kernel"."""
    if not isinstance(theta, Mapping):
        return {prefix: theta}
    arrays: dict[str, Any] = {}
    for part, node in theta.items():
        arrays |= _arrays(node, f"{prefix}/{part}" if prefix else str(part))
    return arrays


LEARNED = {
    rule.family: rule
    for rule in (
        LearnedOptimizer("optim4rl", optim4rl_rule.init_theta, optim4rl_rule.build, "ant"),
        LearnedOptimizer(
            "linear_optim", optim4rl_rule.init_theta_linear, optim4rl_rule.build_linear
        ),
        LearnedOptimizer("l2lgd2", optim4rl_rule.init_theta_l2lgd2, optim4rl_rule.build_l2lgd2),
        LearnedOptimizer("open", open_rule.init_theta, open_rule.build, "multi"),
        LearnedOptimizer("velo", velo_rule.init_theta, velo_rule.build, "released"),
    )
}
