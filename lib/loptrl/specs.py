"""What names a run: its study's version, its seed and its canonical configuration."""

from __future__ import annotations

import hashlib
import json
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from loptrl.errors import LoptrlError

__all__ = ["RunSpec", "canonical", "canonical_json", "plain"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def canonical(value: Any, where: str = "config") -> Any:
    """The same value in JSON types, whole floats as integers; equal values become identical.

    Args:
        value: nested mappings with text keys, lists or tuples, text, numbers, booleans, None.
        where: how errors name the value.

    Raises:
        LoptrlError: NaN, an infinity, a key that is not text, or a type that JSON has not.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise LoptrlError(
                f"Expected a finite number at {where}, got {value}; leave it out or use null."
            )
        return int(value) if value.is_integer() else float(value)
    if isinstance(value, Mapping):
        result = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise LoptrlError(f"Expected keys that are text in {where}, got {key!r}; quote it.")
            result[key] = canonical(item, f"{where}.{key}")
        return dict(sorted(result.items()))
    if isinstance(value, (list, tuple)):
        return [canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise LoptrlError(
        f"Expected a JSON value at {where}, got a {type(value).__name__}; "
        "use text, numbers, true/false, null, lists or mappings."
    )


def canonical_json(value: Any, where: str = "config") -> str:
    """Canonical JSON text: sorted keys, no spaces, ``1e6`` written as ``1000000``."""
    return json.dumps(canonical(value, where), separators=(",", ":"), ensure_ascii=True)


def plain(value: Any) -> Any:
    """A frozen configuration as ordinary dicts and lists, free to be changed."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


@dataclass(frozen=True, eq=False)
class RunSpec:
    """One run: one configuration with one seed.

    ``key`` = the first 16 hex digits of SHA-256 of the canonical JSON of
    ``{study, version, seed, config}``. ``arm`` and ``budget`` are labels and not part of it; the
    arm is a folder's name in the store, and a stored run keeps the one it was made under.
    ``config`` is deeply read-only.

    Args:
        study: name of the study, such as ``adam_collapse``.
        arm: name of the arm, such as ``drift_adam``.
        budget: the label of the budget, such as ``laptop``.
        version: the study's version, raised by hand when its code changes the numbers; >= 0.
        seed: 0 <= seed < 2**32.
        config: nested JSON values, everything the run's numbers depend on.

    Raises:
        LoptrlError: a name that cannot be a file's name, a bad number, a config that is not JSON.
    """

    study: str
    arm: str
    budget: str
    version: int
    seed: int
    config: Mapping[str, Any]
    key: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("study", "arm", "budget"):
            value = getattr(self, name)
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise LoptrlError(
                    f"Expected a {name} of letters, digits and _ . + -, got {value!r}; rename it."
                )
        for name, limit in (("version", 2**31), ("seed", 2**32)):
            object.__setattr__(self, name, _whole(name, getattr(self, name), limit))
        if not isinstance(self.config, Mapping):
            raise LoptrlError(
                f"Expected config as a mapping, got a {type(self.config).__name__}; "
                "give names with values."
            )
        config = canonical(self.config)
        identity = {
            "study": self.study,
            "version": self.version,
            "seed": self.seed,
            "config": config,
        }
        digest = hashlib.sha256(canonical_json(identity).encode("ascii")).hexdigest()
        object.__setattr__(self, "config", _freeze(config))
        object.__setattr__(self, "key", digest[:16])

    @property
    def label(self) -> str:
        """The run as people name it, such as ``study/arm seed 3``."""
        return f"{self.study}/{self.arm} seed {self.seed}"

    def as_dict(self) -> dict[str, Any]:
        """The fields that a manifest stores, in JSON types."""
        return {
            "study": self.study,
            "arm": self.arm,
            "budget": self.budget,
            "version": self.version,
            "seed": self.seed,
            "config": plain(self.config),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> RunSpec:
        """The inverse of ``as_dict``; other entries of a manifest are ignored."""
        names = ("study", "arm", "budget", "version", "seed", "config")
        return cls(**{name: fields[name] for name in names})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunSpec):
            return NotImplemented
        return (self.key, self.arm, self.budget) == (other.key, other.arm, other.budget)

    def __hash__(self) -> int:
        return hash((self.key, self.arm, self.budget))

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping cannot be copied to another process by itself.
        return RunSpec.from_dict, (self.as_dict(),)


def _whole(name: str, value: Any, limit: int) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise LoptrlError(
            f"Expected {name} as a whole number, got {value!r}; give 0, 1, 2, ..."
        ) from None
    if not 0 <= number < limit:
        raise LoptrlError(f"Expected {name} in [0, {limit}), got {number}; give 0, 1, 2, ...")
    return number


def _freeze(value: Any) -> Any:
    if isinstance(value, dict):
        return MappingProxyType({key: _freeze(item) for key, item in value.items()})
    if isinstance(value, list):
        return tuple(_freeze(item) for item in value)
    return value
