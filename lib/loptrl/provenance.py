"""What a manifest says about the machine and the software. Never imports jax."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from loptrl.devices import available_cores
from loptrl.errors import LoptrlError
from loptrl.paths import repo_root

__all__ = [
    "REDUCED",
    "commit",
    "machine",
    "peak_memory_bytes",
    "processor",
    "reset_peak_memory",
    "versions",
]

REDUCED = ", reduced matmul precision"
"""In the words for a device whose float32 matrix products are not in full precision."""

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "brax",
    "mujoco",
    "mujoco-mjx",
    "gymnax",
    "evosax",
    "scikit-learn",
    "numpy",
    "orbax-checkpoint",
    "pyarrow",
)


def versions() -> dict[str, str]:
    """Versions of Python and of what a run's numbers may depend on, without absent packages."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The CPU's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = " ".join(line.partition(":")[2].split())
                break
    except OSError:
        pass
    return f"{name}, {available_cores()} cores"


def machine(device: str) -> str:
    """A manifest's device as a kind of machine: CPU, or GPU with what its matrix products are."""
    if " x cpu " in device:
        return "CPU"
    return "GPU, reduced precision" if REDUCED in device else "GPU"


def commit() -> str | None:
    """The checkout's git commit, with ``-dirty`` when lib/ differs from it; None without git."""
    try:
        root = repo_root()
        head = _git(root, "rev-parse", "--verify", "HEAD").strip()
        dirty = _git(root, "status", "--porcelain", "--", "lib").strip()
    except (LoptrlError, OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if dirty else head


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def reset_peak_memory() -> None:
    """Start measuring the peak anew, where the system can (Linux), so that runs do not mix.

    The GNU C library keeps what compiling the last run's agent took and freed, some 0.6 GiB: it is
    asked to give that back first.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes() -> int:
    """The largest resident memory of this process since ``reset_peak_memory``, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, UnicodeDecodeError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
