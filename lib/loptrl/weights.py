"""Trained optimizers as files: a registry of published ones, checked import, our own format.

Ours is an npz of plain arrays, named by their path, beside a JSON card. Nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loptrl.errors import LoptrlError
from loptrl.files import atomic_write, sha256
from loptrl.paths import cache_dir, weights_dir

__all__ = [
    "REGISTRY",
    "Published",
    "Weights",
    "WeightsError",
    "import_file",
    "import_folder",
    "load",
    "read",
    "save",
]

SCHEMA = 1
_OPEN = "https://raw.githubusercontent.com/AlexGoldie/rl-learned-optimization"
_OPEN_COMMIT = "b65037bd89c09f31e80c5d49f1d78cc9c6dc43e0"
_SOURCE = "https://raw.githubusercontent.com/arseniykan/meta-optim-eval/bcc9b10/optim4rl/logs"


class WeightsError(LoptrlError):
    """Weights are missing, damaged, or not what they should be."""


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights that others published.

    Attributes:
        name: how they are asked for, `family/short name`.
        file: the name of the official file.
        address: where it is, or of the official original that it was converted from.
        commit: the repository's commit.
        sha256: of the file; None where only a conversion was seen.
        licence: SPDX identifier, or None where the repository names none.
        values: how many numbers it holds.
        trained_on: in words.
    """

    name: str
    file: str
    address: str
    commit: str
    sha256: str | None
    licence: str | None
    values: int
    trained_on: str

    @property
    def family(self) -> str:
        """The rule they are for."""
        return self.name.partition("/")[0]


@dataclasses.dataclass(frozen=True)
class Weights:
    """Loaded weights: the card, and arrays by path."""

    card: dict[str, Any]
    arrays: dict[str, np.ndarray]


def _open(name: str, digest: str, trained_on: str, values: int = 1211) -> Published:
    file = f"{name}_OPEN.npy"
    address = f"{_OPEN}/{_OPEN_COMMIT}/rl_optimizer/pretrained/{file}"
    return Published(
        f"open/{name}", file, address, _OPEN_COMMIT, digest, "Apache-2.0", values, trained_on
    )


def _optim4rl(name: str, folder: str, trained_on: str) -> Published:
    address = f"{_SOURCE}/{folder}/param.pickle"
    file = f"{folder.replace('/', '_')}.npz"
    return Published(f"optim4rl/{name}", file, address, "bcc9b10", None, None, 514, trained_on)


REGISTRY: dict[str, Published] = {
    entry.name: entry
    for entry in (
        _open(
            "ant",
            "e1901cafe323d1c5619b84e5178b3075c95a7cde920777e2c15e58c812c3e725",
            "Brax Ant",
        ),
        _open(
            "asterix",
            "55d96c80dca70e4a308352798daec00fc962d7a3faacc24f612e1b437c1893aa",
            "MinAtar Asterix",
        ),
        _open(
            "breakout",
            "d7f0876c78736a0e354f8837e2a549dc7f45ff4d01f952ba9d547d8afc6f7926",
            "MinAtar Breakout",
        ),
        _open(
            "freeway",
            "97ea3f8f9a6e34523dd50c138a1538b33fbd2b1c3a5ee05a31014460825ea9f0",
            "MinAtar Freeway",
        ),
        _open(
            "gridworld",
            "16ebb93a79adbcbfdb3e6019986109ee374764cb9cc8b0ad65f69bdcaedd9bb5",
            "a family of gridworlds",
        ),
        _open(
            "multi",
            "9ba2dea70b0b308a365516dab092808b7b9211c70072bca934d83affaee5f60c",
            "MinAtar Asterix, Freeway, Breakout and SpaceInvaders together",
            3571,
        ),
        _open(
            "spaceinvaders",
            "42845f4c0b6b460789afffb1788f806e676b27acafa0febf34e86bd63d3e362f",
            "MinAtar SpaceInvaders",
        ),
        _optim4rl("ant", "meta_rl_ant/5", "Brax Ant, reset interval 512, meta-learning rate 1e-5"),
        _optim4rl("ant_1", "meta_rl_ant/1", "Brax Ant, reset interval 32, meta-learning rate 1e-5"),
        _optim4rl(
            "ant_22", "meta_rl_ant/22", "Brax Ant, reset interval 64, meta-learning rate 1e-3"
        ),
        _optim4rl(
            "humanoid",
            "meta_rl_humanoid/1",
            "Brax Humanoid, reset interval 32, meta-learning rate 1e-5",
        ),
        _optim4rl("catch", "meta_rl_catch/1", "Catch, reset interval 32"),
    )
}


def save(path: Path, arrays: Mapping[str, np.ndarray], card: Mapping[str, Any]) -> None:
    """Write `path` (.npz) and its card (.json beside it), each there whole or not at all.

    Raises:
        WeightsError: an array holds something else than finite floats, the card names no family,
            or it is no JSON.
    """
    _check(arrays, str(path))
    if not isinstance(card.get("family"), str):
        raise WeightsError(f"expected the card of {path} to name a family, such as 'open'")
    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))
    data = buffer.getvalue()
    values = sum(int(a.size) for a in arrays.values())
    full = {**card, "schema": SCHEMA, "sha256": sha256(data), "values": values}
    try:
        text = json.dumps(full, indent=2, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"expected a card of JSON values for {path}, got {error}") from error
    atomic_write(path, data)
    atomic_write(path.with_suffix(".json"), (text + "\n").encode())


def read(path: Path) -> Weights:
    """Weights that `save` wrote.

    Raises:
        WeightsError: the file or its card is missing, damaged, or holds NaN.
    """
    data, card_path = _bytes(path), path.with_suffix(".json")
    try:
        card = json.loads(_bytes(card_path).decode("utf-8"))
    except ValueError as error:
        raise WeightsError(f"expected JSON in the card {card_path}, got {error}") from error
    if not isinstance(card, dict) or card.get("schema") != SCHEMA:
        raise WeightsError(f"expected a card of schema {SCHEMA} in {card_path}; import it again")
    _check_digest(data, card.get("sha256"), path)
    return Weights(card, _arrays(data, path))


def load(name: str | Path, *, family: str | None = None) -> Weights:
    """Weights by path, by the name of our own, or by a published name that was imported.

    Args:
        name: a path to an .npz, or a name such as "ant" or "open/ant".
        family: the rule they must be for; completes a short name.

    Raises:
        WeightsError: they are not there, damaged, or for another rule.
    """
    path = Path(name)
    if path.suffix != ".npz":
        short = str(name) if "/" in str(name) or family is None else f"{family}/{name}"
        places = [root / f"{short}.npz" for root in (weights_dir(), _imported())]
        found = [place for place in places if place.is_file()]
        if not found:
            known = ", ".join(sorted(n for n in REGISTRY if family in (None, n.split("/")[0])))
            raise WeightsError(
                f"no weights {short!r} are here; import a published file first "
                f"(known: {known or 'none'}), or give the path of an .npz"
            )
        path = found[0]
    weights = read(path)
    if family is not None and weights.card.get("family") != family:
        raise WeightsError(
            f"expected weights for {family}, {path} is for {weights.card.get('family')!r}"
        )
    return weights


def import_file(name: str, source: Path) -> Path:
    """Check an official file and keep it, in our format, in the cache.

    OPEN: the flat .npy vector. Optim4RL: an .npz of the plain arrays by flax path.

    Args:
        name: a name in `REGISTRY`.
        source: the file.

    Returns:
        The path that `load(name)` reads.

    Raises:
        WeightsError: the name is unknown, or the file has a wrong checksum, a pickle inside, a
            wrong length, or a number that is not finite.
    """
    if name not in REGISTRY:
        raise WeightsError(f"no published weights {name!r}; known are {', '.join(REGISTRY)}")
    entry = REGISTRY[name]
    data = _bytes(source)
    if entry.sha256 is not None:
        _check_digest(data, entry.sha256, source)
    if source.suffix == ".npy":
        arrays = {"vector": _vector(data, source)}
    else:
        arrays = {k.removeprefix("params/"): v for k, v in _arrays(data, source).items()}
    _check(arrays, str(source))
    values = sum(int(a.size) for a in arrays.values())
    if values != entry.values:
        raise WeightsError(f"expected {entry.values} numbers in {source}, got {values}")
    target = _imported() / f"{name}.npz"
    kept = {k: v for k, v in dataclasses.asdict(entry).items() if k not in ("sha256", "values")}
    save(target, arrays, {**kept, "family": entry.family, "source_sha256": sha256(data)})
    return target


def import_folder(folder: Path) -> list[str]:
    """Import every official file that lies in a folder or one below; returns their names.

    Raises:
        WeightsError: the folder holds none, or one of them is not right.
    """
    done = []
    for name, entry in REGISTRY.items():
        for path in (folder / entry.file, folder / entry.family / entry.file):
            if path.is_file():
                import_file(name, path)
                done.append(name)
                break
    if not done:
        raise WeightsError(f"expected official files such as multi_OPEN.npy in {folder}, got none")
    return done


def _imported() -> Path:
    return cache_dir() / "weights"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise WeightsError(f"could not read {path}: {why}; check the path") from error


def _check_digest(data: bytes, expected: Any, path: Path) -> None:
    found = sha256(data)
    if found != expected:
        raise WeightsError(
            f"expected the sha256 {str(expected)[:12]}... for {path}, got {found[:12]}...; "
            "the file is damaged or another one, get it again"
        )


def _vector(data: bytes, path: Path) -> np.ndarray:
    try:
        vector = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise WeightsError(
            f"expected plain numbers in {path}, got {error}; a pickle is never opened"
        ) from error
    if not isinstance(vector, np.ndarray) or vector.ndim != 1:
        raise WeightsError(f"expected one flat vector in {path}; it holds something else")
    return vector


def _arrays(data: bytes, path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                raise WeightsError(f"expected an npz of named arrays in {path}, got one array")
            arrays = {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError, AttributeError, zipfile.BadZipFile) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"expected plain arrays in {path}, got {error}; a pickle is never opened"
        ) from error
    _check(arrays, str(path))
    return arrays


def _check(arrays: Mapping[str, np.ndarray], where: str) -> None:
    if not arrays:
        raise WeightsError(f"expected arrays in {where}, got none")
    for name, value in arrays.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            raise WeightsError(f"expected floats in {where}, {name} is something else")
        if not np.isfinite(value).all():
            raise WeightsError(f"expected finite numbers in {where}, {name} holds NaN or infinity")
