"""Strict tests: warnings are errors, the CPU only, no network, nothing written outside tmp.

Set before jax is imported by anyone, since jax reads its settings when it starts.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# --- devices -----------------------------------------------------------------------------------
# The place to choose the number of host devices: it must be done before jax starts.
os.environ["JAX_PLATFORMS"] = "cpu"
# Two, so that everything that is averaged or split over devices is so in the tests.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
# -----------------------------------------------------------------------------------------------
os.environ["MPLBACKEND"] = "Agg"

DEFAULT = "not long"
"""Which tests run by default, as in pyproject.toml."""

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).resolve().parent)]  # toy_program and other helpers

# Each line: whose warning it is and why it cannot be cured here.
THIRD_PARTY_WARNINGS: tuple[str, ...] = (
    # Every import of a Brax body recommends another engine; the studies are about this one.
    "ignore:Brax System, piplines and environments:UserWarning",
    # Brax reads a field of mujoco's Data whose place has moved.
    "ignore:Accessing `[a-z_]*` directly from `Data` is deprecated:DeprecationWarning",
)


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors; the named exceptions come later and so take precedence."""
    if config.option.markexpr == DEFAULT:
        # LLVM would optimise for longer than these tests' programs run: a quarter of their time.
        # Those that are chosen by hand, the long ones among them, take what users take.
        os.environ["XLA_FLAGS"] += " --xla_backend_optimization_level=0"
    config.addinivalue_line(
        "markers", "slow: compiles the agent for the Ant; -m 'not slow' leaves it out"
    )
    config.addinivalue_line(
        "markers", "long: minutes of compiling, left out by default; -m long runs these alone"
    )
    for line in ("error", *THIRD_PARTY_WARNINGS):
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(autouse=True, scope="session")
def _scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """LOPTRL_CACHE is a temporary folder, for subprocesses too."""
    before = os.environ.get("LOPTRL_CACHE")
    os.environ["LOPTRL_CACHE"] = str(tmp_path_factory.mktemp("loptrl_cache"))
    yield
    if before is None:
        del os.environ["LOPTRL_CACHE"]
    else:
        os.environ["LOPTRL_CACHE"] = before


def is_local(host: Any) -> bool:
    """Whether an address is this machine itself (a name other than localhost is not)."""
    text = host.decode() if isinstance(host, bytes) else str(host)
    if text in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Connections and look-ups of names outside this machine are refused."""
    patch = pytest.MonkeyPatch()
    look_up = socket.getaddrinfo

    def guarded(method: Any) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
                raise OSError(f"Tests have no network: refused to connect to {address[0]}.")
            return method(self, address)

        return connect

    def local_only(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None and not is_local(host):
            raise OSError(f"Tests have no network: refused to look up {host}.")
        return look_up(host, *args, **kwargs)

    patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    patch.setattr(socket, "getaddrinfo", local_only)
    yield
    patch.undo()


@pytest.fixture
def strict_jax() -> Iterator[None]:
    """Implicit rank promotion raises, for tests of this project's own array code."""
    import jax

    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def library_path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """lib/, put on PYTHONPATH so that subprocesses find the library without an installation."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "lib"), prepend=os.pathsep)
    return ROOT / "lib"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """An empty store of runs with its own scratch folder."""
    from loptrl.runs import Store

    return Store(tmp_path / "results", tmp_path / "scratch")
