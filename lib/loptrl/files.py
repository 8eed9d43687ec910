"""Files that are there completely or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from loptrl.errors import StoreError

__all__ = [
    "Staged",
    "atomic_write",
    "remove_folder",
    "sha256",
    "sync_folder",
    "write_error",
    "write_together",
]

_counter = itertools.count()


class Staged:
    """Bytes that are safely on the disk under a hidden name, waiting to take their place.

    Args:
        path: the final place; its folder must exist.
        data: the whole content.

    Raises:
        OSError: it could not be written; nothing is left behind.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path = path
        self.temporary = hidden_name(path)
        try:
            write_synced(self.temporary, data)
        except BaseException:
            self.discard()
            raise

    def commit(self) -> None:
        """Take the final place, in one step that no reader can see half done."""
        os.replace(self.temporary, self.path)

    def discard(self) -> None:
        """Forget the bytes, if they have not taken their place."""
        self.temporary.unlink(missing_ok=True)


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a crash.

    Raises:
        StoreError: it could not be written; what was there before is untouched.
    """
    write_together({path: data})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files of one folder, none taking its place before all are safely on the disk.

    They take their places in the order given: a reader that finds the last finds all.

    Raises:
        StoreError: one could not be written; what was there before is untouched.
    """
    staged: list[Staged] = []
    backups: dict[Path, Path] = {}
    path = next(iter(contents))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for path, data in contents.items():
            staged.append(Staged(path, data))
        for path in list(contents)[:-1]:
            backups[path] = hidden_name(path)
            with contextlib.suppress(OSError):
                os.link(path, backups[path])
        _commit(staged, backups)
        sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        for item in staged:
            item.discard()
        for backup in backups.values():
            backup.unlink(missing_ok=True)


def _commit(staged: list[Staged], backups: Mapping[Path, Path]) -> None:
    """All take their places, or those that did give it back."""
    placed: list[Path] = []
    try:
        for item in staged:
            item.commit()
            placed.append(item.path)
    except OSError:
        for path in placed:
            if backups[path].exists():
                backups[path].rename(path)
            else:
                path.unlink(missing_ok=True)
        raise


def hidden_name(path: Path) -> Path:
    """A hidden sibling's name that no other writer uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{next(_counter)}.tmp")


def write_synced(path: Path, data: bytes) -> None:
    """Write and flush to the device; raises OSError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Flush a file that someone else wrote to the device; raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut; raises OSError."""
    sync_file(folder)


def remove_folder(folder: Path) -> None:
    """Delete a folder of scratch files; one that cannot be deleted is left."""
    shutil.rmtree(folder, ignore_errors=True)


def sha256(data: bytes) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def write_error(path: Path, error: OSError) -> StoreError:
    """One sentence for a failed write, with the remedy that fits."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space and start again"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "choose a folder you may write to (LOPTRL_DATA, LOPTRL_CACHE)"
    else:
        remedy = "check the folder (LOPTRL_DATA, LOPTRL_CACHE)"
    cause = os.strerror(error.errno) if error.errno else str(error)
    return StoreError(f"Could not write {path}: {cause}; {remedy}.")
