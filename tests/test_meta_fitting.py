"""How much is computed at once on a device."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from loptrl.meta import fitting


def programs(each: int, tried: list[int]):
    """Programs that take `each` bytes for every one at once, half of it arguments."""

    def program(together: int) -> SimpleNamespace:
        tried.append(together)
        kinds = {"temp": each, "argument": each // 2, "output": each, "alias": each // 2 + each}
        sizes = {f"{kind}_size_in_bytes": together * n for kind, n in kinds.items()}
        compiled = SimpleNamespace(memory_analysis=lambda: SimpleNamespace(**sizes))
        return SimpleNamespace(lower=lambda *_: SimpleNamespace(compile=lambda: compiled))

    return program


@pytest.mark.parametrize(
    ("limit", "together", "tries"),
    [(None, 1, []), (10_000, 7, [7]), (777, 4, [7, 4]), (400, 2, [7, 4, 2]), (9, 1, [7, 4, 2])],
)
def test_as_many_as_fit_in_nine_tenths(monkeypatch, limit, together, tries):
    monkeypatch.setattr(fitting, "memory_limit", lambda: limit)
    tried: list[int] = []
    assert fitting.at_once(7, programs(100, tried)) == together
    assert tried == tries


def test_a_cpu_names_no_limit_and_others_theirs(monkeypatch):
    assert fitting.memory_limit() is None
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 5, "bytes_in_use": 1})
    monkeypatch.setattr(fitting.jax, "local_devices", lambda: [device])
    assert fitting.memory_limit() == 5
