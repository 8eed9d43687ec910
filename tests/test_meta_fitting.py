"""How much is computed at once on a device."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import jax
import pytest

from loptrl.meta import fitting


def programs(compile: Callable[[int], SimpleNamespace], tried: list[int]):
    """Functions of how many are computed at once, which are noted when they are compiled."""

    def jitted(together: int) -> SimpleNamespace:
        tried.append(together)
        return SimpleNamespace(lower=lambda *_: SimpleNamespace(compile=lambda: compile(together)))

    return jitted


def of_size(each: int) -> Callable[[int], SimpleNamespace]:
    """Compiled programs that take `each` bytes for every one at once; results are arguments."""

    def compile(together: int) -> SimpleNamespace:
        kinds = {"temp": each // 2, "argument": each // 2, "output": each, "alias": each}
        sizes = {f"{kind}_size_in_bytes": together * n for kind, n in kinds.items()}
        return SimpleNamespace(memory_analysis=lambda: SimpleNamespace(**sizes))

    return compile


@pytest.mark.parametrize(
    ("limit", "together", "tries"),
    [
        (0.0, 1, []),
        (math.inf, 7, []),
        (1e4, 7, [7]),
        (777.0, 4, [7, 4]),
        (400.0, 2, [7, 4, 2]),
        (9.0, 1, [7, 4, 2]),
    ],
)
def test_as_many_as_fit_in_nine_tenths(monkeypatch, limit, together, tries):
    monkeypatch.setattr(fitting, "memory_limit", lambda: limit)
    tried: list[int] = []
    assert fitting.at_once(7, programs(of_size(100), tried)) == together
    assert tried == tries


@pytest.mark.parametrize("words", ["RESOURCE_EXHAUSTED: no way", "INTERNAL: a fault"])
def test_what_the_compiler_cannot_fit_does_not_fit(monkeypatch, words):
    def compile(together: int) -> SimpleNamespace:
        if together > 2:
            raise jax.errors.JaxRuntimeError(words)
        return of_size(100)(together)

    monkeypatch.setattr(fitting, "memory_limit", lambda: 1e4)
    if words.startswith("RESOURCE"):
        assert fitting.at_once(4, programs(compile, [])) == 2
    else:
        with pytest.raises(jax.errors.JaxRuntimeError, match="a fault"):
            fitting.at_once(4, programs(compile, []))


@pytest.mark.parametrize(
    ("stats", "limit"), [({"bytes_limit": 5, "bytes_in_use": 1}, 5), (None, math.inf)]
)
def test_an_accelerator_names_its_limit_and_a_cpu_takes_one(monkeypatch, stats, limit):
    assert fitting.memory_limit() == 0
    monkeypatch.setattr(fitting.jax, "default_backend", lambda: "gpu")
    device = SimpleNamespace(memory_stats=lambda: stats)
    monkeypatch.setattr(fitting.jax, "local_devices", lambda: [device])
    assert fitting.memory_limit() == limit
