"""Trained optimizers as files: download, checked import, our own format.

Ours is an npz of plain arrays, named by their path, beside a JSON card. Two places hold such files:
the weights that were trained here (`paths.weights_dir`), and those of others that were imported
(the cache). Nothing is ever unpickled but by `plain_pickle`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from loptrl import weight_formats
from loptrl.errors import LoptrlError, WeightsError
from loptrl.files import sha256, write_error, write_together
from loptrl.paths import cache_dir, official_dir, weights_dir
from loptrl.plain_arrays import check, numbers_sha256, read_bytes
from loptrl.weight_registry import REGISTRY, Published, known

__all__ = [
    "REGISTRY",
    "Published",
    "Weights",
    "WeightsError",
    "available",
    "card",
    "digest",
    "fetch",
    "import_file",
    "import_folder",
    "load",
    "names",
    "place",
    "read",
    "save",
]

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Weights:
    """Loaded weights: the card, and arrays by path."""

    card: dict[str, Any]
    arrays: dict[str, np.ndarray]


def save(path: str | Path, arrays: Mapping[str, ArrayLike], card: Mapping[str, Any]) -> None:
    """Write `path` (.npz) and its card (.json beside it), both whole or neither.

    `LearnedOptimizer.save` does it for the theta of a rule.

    Raises:
        WeightsError: the file is not called .npz, an array holds something else than finite floats,
            the card names no family, or it is no JSON.
        StoreError: they could not be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise WeightsError(f"expected a file NAME.npz for weights, got {path}; call it that")
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    check(arrays, str(path))
    if not isinstance(card.get("family"), str):
        raise WeightsError(f"expected the card of {path} to name a family, such as 'open'")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getvalue()
    full = {
        "size": len(data),
        **card,
        "schema": SCHEMA,
        "sha256": sha256(data),
        "numbers_sha256": numbers_sha256(arrays),
        "values": sum(int(a.size) for a in arrays.values()),
    }
    try:
        text = json.dumps(full, indent=2, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"expected a card of JSON values for {path}, got {error}") from error
    # The card first: weights without one would be found and not be read.
    write_together({path.with_suffix(".json"): (text + "\n").encode(), path: data})


def read(path: Path) -> Weights:
    """Weights that `save` wrote.

    Raises:
        WeightsError: the file or its card is missing, damaged, or holds NaN.
    """
    data, found = read_bytes(path), _read_card(path)
    if sha256(data) != found["sha256"]:
        # Another process may be between putting the two files in place.
        time.sleep(0.05)
        data, found = read_bytes(path), _read_card(path)
    _check_digest(data, found["sha256"], path)
    arrays = weight_formats.read_npz(data, str(path))
    check(arrays, str(path))
    return Weights(found, arrays)


def load(name: str | Path, *, family: str | None = None) -> Weights:
    """Weights by path, by the name of our own, or by a published name that was imported.

    Args:
        name: a path to an .npz, or a name such as "ant" or "open/ant".
        family: the rule they must be for; completes a short name.

    Raises:
        WeightsError: they are not there, damaged, or for another rule.
    """
    path = _find(name, family)
    if path is None:
        raise _missing(name, family)
    weights = read(path)
    _check_family(weights.card, family, path)
    return weights


def available(name: str | Path, family: str | None = None) -> bool:
    """Whether `load` would find these weights."""
    return _find(name, family) is not None


def card(name: str | Path, family: str | None = None) -> dict[str, Any]:
    """The card of the weights that `load` would take; of published ones also where they are not.

    Raises:
        WeightsError: nobody knows them, the card is damaged, or they are for another rule.
    """
    path = _find(name, family)
    if path is not None:
        found = _read_card(path)
        _check_family(found, family, path)
        return found
    entry = REGISTRY.get(_full_name(name, family))
    if entry is None:
        raise _missing(name, family)
    return {**dataclasses.asdict(entry), "family": entry.family}


def digest(name: str | Path, family: str | None = None) -> str:
    """The SHA-256 of the numbers that `load` would give: the same on every machine.

    Needs no jax, and for published weights of known content not even their file.

    Raises:
        WeightsError: they are not here and their content is not known, or as for `card`.
    """
    found = card(name, family)["numbers_sha256"]
    if found is None:
        raise _missing(name, family)
    return found


def names() -> list[str]:
    """The names of all published weights and of our own, each once."""
    own = (
        path.relative_to(root).with_suffix("").as_posix()
        for root in _own()
        for path in root.rglob("*.npz")
    )
    return list(dict.fromkeys([*REGISTRY, *sorted(own)]))


def place(name: str | Path, family: str | None = None) -> str:
    """Where the weights are that `load` would take: "ours", "imported", a path or "not here"."""
    path = _find(name, family)
    if path is None:
        return "not here"
    roots = [("ours", root) for root in _own()] + [("imported", _imported())]
    return next((word for word, root in roots if path.is_relative_to(root)), str(path))


def import_file(name: str, source: Path) -> Path:
    """Check an official file and keep it, in our format, in the cache.

    OPEN: the flat .npy vector. Optim4RL: `param.pickle`, or its conversion to an .npz. VeLO: the
    msgpack `params`, with `config.gin` beside it.

    Args:
        name: a name in `REGISTRY`.
        source: the file.

    Returns:
        The path that `load(name)` reads.

    Raises:
        WeightsError: the name is unknown, or the file has a wrong checksum, a wrong format, a wrong
            length, other numbers than the published ones, or a number that is not finite.
        StoreError: the cache cannot be written.
    """
    entry = known(name)
    data = read_bytes(source)
    converted = entry.converted is not None and data.startswith(weight_formats.ZIP)
    expected = entry.converted_sha256 if converted else entry.sha256
    if expected is not None:
        _check_digest(data, expected, source)
    arrays, options = weight_formats.official(entry.family, data, source)
    check(arrays, str(source))
    values = sum(int(a.size) for a in arrays.values())
    if values != entry.values:
        raise WeightsError(f"expected {entry.values} numbers in {source}, got {values}")
    found = numbers_sha256(arrays)
    if entry.numbers_sha256 not in (None, found):
        raise WeightsError(
            f"expected the published numbers of {name} (sha256 {entry.numbers_sha256[:12]}...) in "
            f"{source}, got others ({found[:12]}...); get the file again"
        )
    target = _imported() / f"{name}.npz"
    kept = ("name", "address", "commit", "licence", "size", "trained_on")
    about = {field: getattr(entry, field) for field in kept}
    about |= {"family": entry.family, "options": options, "source_sha256": sha256(data)}
    save(target, arrays, about)
    return target


def import_folder(folder: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Import official files that lie in a folder, or below it in one named as their family.

    Args:
        folder: the folder.
        wanted: names in `REGISTRY`; all that are there by default.

    Returns:
        The names of what was imported.

    Raises:
        WeightsError: none is there, one that was asked for is not, or one is not right.
        StoreError: the cache cannot be written.
    """
    found = {}
    for entry in [known(name) for name in wanted] or REGISTRY.values():
        files = [file for file in (entry.file, entry.converted) if file is not None]
        paths = [root / file for root in (folder, folder / entry.family) for file in files]
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            found[entry.name] = path
        elif wanted:
            raise WeightsError(
                f"expected {' or '.join(files)} in {folder} or its folder {entry.family} for "
                f"{entry.name}, found none; check the folder"
            )
    if not found:
        raise WeightsError(f"expected official files such as multi_OPEN.npy in {folder}, got none")
    for name, path in found.items():
        import_file(name, path)
    return list(found)


def fetch(wanted: Sequence[str] = (), folder: Path | None = None) -> list[str]:
    """Get published weights, from a folder where one is given, else from their address; import.

    Args:
        wanted: names in `REGISTRY`; with a folder, all that are there by default.
        folder: holds the official files; LOPTRL_WEIGHTS by default.

    Returns:
        The names of what was imported.

    Raises:
        WeightsError: a name is unknown, a file cannot be had or is not right, or no checksum is
            known by which a download could be told from another file.
        StoreError: the cache cannot be written.
    """
    folder = official_dir() if folder is None else folder
    if folder is not None:
        return import_folder(folder, wanted)
    if not wanted:
        raise WeightsError("expected the names of weights; `loptrl weights list` shows them")
    entries = [known(name) for name in wanted]
    for entry in entries:
        if not entry.can_be_checked:
            raise WeightsError(
                f"no checksum of {entry.name} is known, so it is not downloaded; get "
                f"{entry.address} (and what lies beside it) by hand, then run "
                f"`loptrl weights import {entry.name} FILE`"
            )
    for entry in entries:
        path = _download(entry)
        try:
            import_file(entry.name, path)
        except WeightsError:
            path.unlink(missing_ok=True)
            raise
    return [entry.name for entry in entries]


def _download(entry: Published) -> Path:
    """The official file in the cache, downloaded unless it is there."""
    import pooch

    path = cache_dir() / "official" / entry.family / entry.file
    pooch.get_logger().setLevel("WARNING")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path.parent, error) from error
    try:
        pooch.retrieve(
            entry.address,
            known_hash=None if entry.sha256 is None else f"sha256:{entry.sha256}",
            fname=path.name,
            path=path.parent,
        )
    except PermissionError as error:
        raise write_error(path, error) from error
    except ValueError as error:
        got = re.search(r"but got (\w{12})", str(error))
        raise WeightsError(
            f"expected the sha256 {str(entry.sha256)[:12]}... for {entry.address}, got "
            f"{got[1] + '...' if got else 'another one'}; nothing was kept, try again"
        ) from error
    except OSError as error:  # what requests raises is one, too
        why = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(
            f"could not download {entry.address}: {why:.200}; without a network give a folder that "
            "holds the file with --from DIR or LOPTRL_WEIGHTS"
        ) from error
    return path


def _own() -> list[Path]:
    # A library that is installed away from a checkout has no weights of its own.
    with contextlib.suppress(LoptrlError):
        return [weights_dir()]
    return []


def _imported() -> Path:
    return cache_dir() / "weights"


def _full_name(name: str | Path, family: str | None) -> str:
    return str(name) if "/" in str(name) or family is None else f"{family}/{name}"


def _find(name: str | Path, family: str | None) -> Path | None:
    path = Path(name)
    if path.suffix == ".npz":
        return path if path.is_file() else None
    places = (root / f"{_full_name(name, family)}.npz" for root in (*_own(), _imported()))
    return next((place for place in places if place.is_file()), None)


def _missing(name: str | Path, family: str | None) -> WeightsError:
    full = _full_name(name, family)
    if Path(name).suffix == ".npz":
        return WeightsError(f"could not read {name}: there is no such file; check the path")
    if full in REGISTRY:
        command = f"fetch {full}" if REGISTRY[full].can_be_checked else f"import {full} FILE"
        return WeightsError(f"no weights {full!r} are here; run `loptrl weights {command}` first")
    found = ", ".join(sorted(n for n in REGISTRY if family in (None, n.split("/")[0])))
    return WeightsError(
        f"no weights {full!r} are here; give the path of an .npz, or a published name "
        f"(known: {found or 'none'})"
    )


def _read_card(path: Path) -> dict[str, Any]:
    place = path.with_suffix(".json")
    try:
        found = json.loads(read_bytes(place).decode("utf-8"))
    except WeightsError:
        raise
    except ValueError as error:
        raise WeightsError(f"expected JSON in the card {place}, got {error}") from error
    needed = {"family", "numbers_sha256", "sha256", "values"}
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or needed - set(found):
        raise WeightsError(f"expected a card of schema {SCHEMA} in {place}; import it again")
    return found


def _check_family(found: Mapping[str, Any], family: str | None, path: Path) -> None:
    if family not in (None, found["family"]):
        raise WeightsError(f"expected weights for {family}, {path} is for {found['family']!r}")


def _check_digest(data: bytes, expected: Any, path: Path) -> None:
    found = sha256(data)
    if found != expected:
        raise WeightsError(
            f"expected the sha256 {str(expected)[:12]}... for {path}, got {found[:12]}...; "
            "the file is damaged or another one, get it again"
        )
