"""Checkpoints: exact, atomic, and never believed when damaged."""

from __future__ import annotations

import asyncio
import math
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from faults import FaultyOs
from loptrl import checkpoints, files, provenance
from loptrl.errors import StoreError
from loptrl.keys import derive, root_key


class Nested(NamedTuple):
    mean: Any
    steps: Any


def make_state(scale: float = 1.0) -> dict[str, Any]:
    key = root_key(5)
    return {
        "key": derive(key, "a"),
        "keys": jax.random.split(derive(key, "b"), 3),
        "rbg": jax.random.key(1, impl="rbg"),
        "params": [scale * jax.random.normal(key, (4, 3)), jnp.ones(2, jnp.bfloat16)],
        "opt": Nested(jnp.float32(scale), np.int64(2**20)),
        "flags": jnp.array([True, False]),
        "special": jnp.array([jnp.nan, jnp.inf, -0.0, 1e-45]),
        "empty": jnp.zeros((0, 3)),
        "host": np.arange(3, dtype=np.float64) / 3,
        "number": 7,
        "none": None,
    }


ROWS = [{"env_steps": 10, "r": 0.1 + 0.2, "nan": math.nan}, {"env_steps": 20, "r": math.inf}]


def same_bits(one: Any, two: Any) -> bool:
    def bits(leaf: Any) -> tuple[str, bytes]:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return str(leaf.dtype), np.asarray(jax.random.key_data(leaf)).tobytes()
        array = np.asarray(leaf)
        return str(array.dtype), array.tobytes()

    assert jax.tree.structure(one) == jax.tree.structure(two)
    return [bits(x) for x in jax.tree.leaves(one)] == [bits(x) for x in jax.tree.leaves(two)]


def flip(path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_everything_comes_back_bit_for_bit(tmp_path):
    state = checkpoints.settle(make_state(1.5))
    checkpoints.save(tmp_path / "run", 3, state, ROWS, {"key": "abc", "wall": 1.25})
    kept = checkpoints.load(tmp_path / "run", checkpoints.settle(make_state(0.0)))
    assert kept.step == 3
    assert kept.meta == {"key": "abc", "wall": 1.25}
    assert same_bits(kept.state, state)
    assert not same_bits(kept.state, checkpoints.settle(make_state(1.6))), (
        "the comparison must be able to fail"
    )
    assert repr(kept.rows) == repr(ROWS)
    assert kept.state["rbg"].dtype == state["rbg"].dtype


def test_nothing_there_is_none(tmp_path):
    assert checkpoints.load(tmp_path / "never", make_state()) is None
    assert not (tmp_path / "never").exists()


def test_the_last_two_are_kept(tmp_path):
    small = {"x": jnp.arange(3.0)}
    for step in (1, 2, 3, 4):
        checkpoints.save(tmp_path, step, small, [], {})
    assert checkpoints.steps(tmp_path) == [4, 3]
    assert {p.name for p in tmp_path.iterdir()} == {"step-0000000003", "step-0000000004"}


@pytest.mark.parametrize("what", ["array", "rows", "meta", "checksums", "missing", "added", "cut"])
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path, what):
    small = {"x": jnp.arange(3.0)}
    checkpoints.save(tmp_path, 1, small, ROWS, {"n": 1})
    newest = checkpoints.save(tmp_path, 2, {"x": jnp.arange(3.0) + 1}, ROWS, {"n": 2})
    array = max(newest.joinpath("state").rglob("*"), key=lambda p: p.is_file() * p.stat().st_size)
    if what == "array":
        flip(array)
    elif what == "missing":
        array.unlink()
    elif what == "added":
        (newest / "state" / "extra").touch()
    elif what == "cut":
        (newest / "rows.json").write_bytes((newest / "rows.json").read_bytes()[:-5])
    else:
        flip(newest / f"{what}.json", 3)
    notices = []
    kept = checkpoints.load(tmp_path, small, notice=notices.append)
    assert kept.step == 1 and kept.meta == {"n": 1} and same_bits(kept.state, small)
    assert len(notices) == 1 and str(newest) in notices[0] and notices[0].count("..") == 0
    # The run goes on from step 1: the damaged later one must not push good ones out.
    checkpoints.save(tmp_path, 2, small, ROWS, {})
    assert checkpoints.steps(tmp_path) == [2, 1]


def test_later_ones_of_an_abandoned_line_are_dropped(tmp_path):
    small = {"x": jnp.arange(3.0)}
    for step in (5, 9, 6):
        checkpoints.save(tmp_path, step, small, [], {})
    assert checkpoints.steps(tmp_path) == [6, 5]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ({"x": jnp.zeros(4)}, r"\['x'\] as float32\[3\] against \['x'\] as float32\[4\]"),
        ({"x": jnp.zeros(3, jnp.int32)}, "int32"),
        ({"y": jnp.zeros(3)}, r"\['y'\]"),
        ({"x": jnp.zeros(3), "z": jnp.zeros(1)}, "1 arrays against 2"),
        ({"x": jax.random.split(root_key(0), 3)}, "keys of threefry2x32"),
    ],
)
def test_another_programs_checkpoint_is_passed_over(tmp_path, template, text):
    checkpoints.save(tmp_path, 1, {"x": jnp.arange(3.0)}, [], {})
    notices = []
    assert checkpoints.load(tmp_path, template, notice=notices.append) is None
    assert len(notices) == 1 and re.search(text, notices[0]), notices


def test_a_refused_one_is_passed_over_with_the_reason(tmp_path):
    small = {"x": jnp.arange(3.0)}
    checkpoints.save(tmp_path, 1, small, [], {"key": "mine"})
    checkpoints.save(tmp_path, 2, small, [], {"key": "theirs"})
    notices = []
    kept = checkpoints.load(
        tmp_path,
        small,
        accept=lambda meta: None if meta["key"] == "mine" else f"it is {meta['key']}",
        notice=notices.append,
    )
    assert kept.step == 1 and "it is theirs" in notices[0]


@pytest.mark.parametrize("function", ["write", "fsync"])
@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_full_disk_leaves_the_earlier_one(tmp_path, monkeypatch, function, first):
    small = {"x": jnp.arange(3.0)}
    checkpoints.save(tmp_path, 1, small, [], {})
    monkeypatch.setattr(files, "os", FaultyOs(function, first))
    with pytest.raises(StoreError, match="No space left on device; free some space") as caught:
        checkpoints.save(tmp_path, 2, small, ROWS, {})
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000000001"]
    assert checkpoints.load(tmp_path, small).step == 1


def test_orbax_that_cannot_write_is_one_sentence(tmp_path, monkeypatch):
    class Full:
        def save(self, path: Any, tree: Any) -> None:
            raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")

    monkeypatch.setattr(checkpoints, "_orbax", Full)
    with pytest.raises(StoreError, match="No space left on device; free some space"):
        checkpoints.save(tmp_path, 1, {"x": jnp.zeros(1)}, [], {})
    assert not any(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Could not write .*Not a directory"):
        checkpoints.save(tmp_path / "file" / "run", 1, {"x": jnp.zeros(1)}, [], {})


def test_leftovers_of_a_kill_are_swept(tmp_path):
    (tmp_path / ".step-0000000001.99-0.tmp" / "state").mkdir(parents=True)
    checkpoints.save(tmp_path, 2, {"x": jnp.zeros(1)}, [], {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000000002"]


def test_inside_a_running_event_loop_as_in_a_notebook(tmp_path):
    async def cell() -> Any:
        checkpoints.save(tmp_path, 1, {"x": jnp.arange(3.0)}, [], {})
        return checkpoints.load(tmp_path, {"x": jnp.zeros(3)})

    assert asyncio.run(cell()).state["x"].tolist() == [0.0, 1.0, 2.0]


def test_settle_makes_every_leaf_a_strong_array_and_touches_no_other():
    weak = jax.jit(lambda: (2.0, 3))()
    assert weak[0].weak_type and weak[1].weak_type
    state = {"weak": weak, "strong": jnp.ones(2, jnp.bfloat16), "key": root_key(0), "n": 3}
    state["host"] = np.arange(2.0)
    settled = checkpoints.settle(state)
    assert not settled["weak"][0].weak_type and settled["weak"][0] == 2.0
    assert settled["weak"][1].dtype == weak[1].dtype
    assert settled["strong"] is state["strong"] and settled["key"] is state["key"]
    assert settled["n"].dtype == jnp.int32 and not settled["n"].weak_type
    assert settled["host"].dtype == jnp.float32


def test_text_in_a_state_is_refused(tmp_path):
    for use in (checkpoints.settle, lambda state: checkpoints.save(tmp_path, 1, state, [], {})):
        with pytest.raises(TypeError, match=r"JAX arrays in a program's state, got str at \['name"):
            use({"name": "ant"})
    assert not any(tmp_path.iterdir())


def test_arrays_return_to_the_devices_they_were_on(tmp_path):
    devices = jax.devices()
    if len(devices) < 2:
        pytest.skip("needs two host devices (see conftest)")
    mesh = jax.sharding.Mesh(np.array(devices[:2]), ("d",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    keys = jax.device_put(jax.random.split(root_key(0), 4), split)
    state = {"x": jax.device_put(jnp.arange(8.0), split), "keys": keys, "free": jnp.ones(2)}
    checkpoints.save(tmp_path, 1, state, [], {})
    kept = checkpoints.load(tmp_path, state).state
    assert same_bits(kept, state)
    assert kept["x"].sharding == split and kept["keys"].sharding == keys.sharding
    assert not kept["free"].committed


def test_versions_that_may_change_numbers_are_kept_apart(monkeypatch):
    """What makes worlds, searches and tasks is recorded; what decides bits makes other folders."""
    real = provenance.versions()
    assert {"gymnax", "evosax", "mujoco", "mujoco-mjx", "scikit-learn", "jax"} <= set(real)
    assert set(checkpoints.DECISIVE) <= set(real)
    folders = {checkpoints.fingerprint("a device")}
    for name in ("gymnax", "evosax", "jax"):
        monkeypatch.setattr(provenance, "versions", lambda n=name: {**real, n: "0"})
        folders.add(checkpoints.fingerprint("a device"))
    assert len(folders) == 4
