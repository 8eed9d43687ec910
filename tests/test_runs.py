"""The store: names that stay, files that are whole or absent, damage that is seen."""

from __future__ import annotations

import fcntl
import json
import math
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest

from faults import FaultyOs
from loptrl import files
from loptrl.errors import DamagedRun, LoptrlError, MissingRun, RunLocked, StoreError
from loptrl.files import sha256
from loptrl.runs import RunSpec, Store
from loptrl.specs import canonical_json

CONFIG = {"env": "ant", "ppo": {"lr": 3e-4, "clip": None, "sizes": [64, 64]}, "steps": 1e6}


def spec(seed: int = 0, arm: str = "adam", **config) -> RunSpec:
    return RunSpec("study", arm, "smoke", 1, seed, {**CONFIG, **config})


def facts(**other) -> dict:
    return {
        "env_steps": 30,
        "versions": {"python": "3.11"},
        "device": "cpu",
        "wall_time_s": 1.5,
        "peak_memory_bytes": 10,
        "env_steps_per_s": 20.0,
        "commit": None,
        "created": "2026-01-01T00:00:00+00:00",
        "diverged_at": None,
        "resumed": 0,
        **other,
    }


def frame(rows: int = 3) -> pd.DataFrame:
    steps = 10 * np.arange(1, rows + 1)
    return pd.DataFrame(
        {"env_steps": steps, "loss": [math.nan, 0.1 + 0.2, 1e-300][:rows], "updates": steps // 5}
    )


def everything(store: Store) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in store.root.rglob("*") if p.is_file()}


# --- write and read ----------------------------------------------------------------------------


def test_round_trip_is_exact(store):
    assert store.state(spec()) == "missing"
    written = store.write(spec(), frame(), facts(note="kept"))
    read = store.read(spec())
    assert store.state(spec()) == "done"
    assert list(read.frame.columns) == ["seed", "env_steps", "loss", "updates"]
    assert [str(t) for t in read.frame.dtypes] == ["int64", "int64", "float64", "int64"]
    assert read.frame["loss"].to_numpy().tobytes() == frame()["loss"].to_numpy().tobytes()
    assert (read.frame["seed"] == 0).all()
    assert read.manifest == written.manifest
    assert read.spec == spec() and read.diverged_at is None
    manifest = read.manifest
    assert manifest["note"] == "kept" and manifest["rows"] == 3 and manifest["schema"] == 1
    assert manifest["parquet_sha256"] == sha256(store.path(spec()).read_bytes())
    assert [p.name for p in store.path(spec()).parent.iterdir() if p.name[0] == "."] == []


def test_the_same_rows_are_the_same_bytes(store, tmp_path):
    other = Store(tmp_path / "other", tmp_path / "scratch")
    for place in (store, other):
        place.write(spec(), frame(), facts(wall_time_s=float(len(str(place.root)))))
    assert store.path(spec()).read_bytes() == other.path(spec()).read_bytes()


def test_a_manifest_may_be_reformatted_but_not_changed(store):
    store.write(spec(), frame(), facts(wall_time_s=2.0))
    path = store.manifest_path(spec())
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items()))))
    store.read(spec())
    path.write_text(json.dumps({**content, "wall_time_s": 2.5}))
    with pytest.raises(DamagedRun, match=r"\.json is damaged: its checksum is wrong"):
        store.read(spec())


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (frame().drop(columns="env_steps"), "env_steps is missing"),
        (frame(0), "not one row"),
        (frame().assign(name="x"), "the column name holds"),
        (frame().assign(env_steps=[10, 10, 20]), "do not increase"),
        (frame().assign(env_steps=[10, 10.5, 20]), "not whole numbers"),
        (frame().assign(env_steps=[10, math.nan, 20]), "not whole numbers"),
        (frame().set_axis(["env_steps", "a", "a"], axis=1), "there twice"),
    ],
)
def test_rows_that_do_not_fit(store, bad, text):
    with pytest.raises(StoreError, match=text):
        store.write(spec(), bad, facts())
    assert everything(store) == {}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"device": None}, "device is missing or of a wrong type"),
        ({"env_steps": True}, "env_steps is missing or of a wrong type"),
        ({"wall_time_s": math.nan}, r"manifest\.wall_time_s, got nan"),
        ({"extra": object()}, "JSON value at manifest.extra"),
    ],
)
def test_a_manifest_that_does_not_fit(store, change, text):
    with pytest.raises(StoreError, match=text):
        store.write(spec(), frame(), facts(**change))
    assert everything(store) == {}


def test_identity_in_a_manifest_is_the_specs(store):
    run = store.write(spec(), frame(), facts(seed=99, key="0" * 16, rows=7, schema=8))
    assert run.manifest["seed"] == 0 and run.manifest["rows"] == 3


def test_a_missing_run_names_itself_and_the_command(store):
    with pytest.raises(MissingRun) as caught:
        store.read(spec(seed=2))
    sentence = str(caught.value)
    assert "study/adam seed 2" in sentence and spec(seed=2).key in sentence
    assert "load_or_run computes it" in sentence


# --- damage ------------------------------------------------------------------------------------


def test_every_flipped_byte_of_the_parquet_is_seen(store):
    store.write(spec(), frame(), facts())
    path = store.path(spec())
    good = path.read_bytes()
    for at in range(0, len(good), 97):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(DamagedRun, match="its checksum differs") as caught:
            store.read(spec())
        assert str(path) in str(caught.value)
    assert store.state(spec()) == "damaged"


def test_every_flipped_byte_of_the_manifest_is_seen(store):
    store.write(spec(), frame(), facts())
    path = store.manifest_path(spec())
    good = path.read_bytes()
    original = json.loads(good)
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x01]) + good[at + 1 :])
        try:
            harmless = json.loads(path.read_bytes()) == original  # a space became another one
        except ValueError:
            harmless = False
        if not harmless:
            with pytest.raises(DamagedRun) as caught:
                store.read(spec())
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".parquet", ".json"])
@pytest.mark.parametrize("keep", [0, 40, -1])
def test_truncated_files(store, suffix, keep):
    store.write(spec(), frame(), facts())
    path = store.path(spec()).with_suffix(suffix)
    # Without its last newline a manifest is still whole; one byte more and it is not.
    path.write_bytes(path.read_bytes()[: keep if keep >= 0 else -2])
    with pytest.raises(DamagedRun, match=str(path)):
        store.read(spec())
    damaged: list[DamagedRun] = []
    assert len(list(store.iter_manifests(damaged=damaged))) == (suffix == ".parquet")
    assert len(damaged) == (suffix == ".json")


def test_lost_files(store):
    store.write(spec(), frame(), facts())
    store.path(spec()).rename(store.path(spec()).with_name("aside"))
    with pytest.raises(DamagedRun, match=r"parquet is damaged: No such file"):
        store.read(spec())
    # A Parquet file alone is a write that was cut off before the manifest.
    store.path(spec()).with_name("aside").rename(store.path(spec()))
    store.manifest_path(spec()).unlink()
    assert store.state(spec()) == "missing"


def forge(store: Store, table=None, **changes) -> None:
    """Change the files and make every checksum right again."""
    path, manifest_path = store.path(spec()), store.manifest_path(spec())
    if table is not None:
        import pyarrow.parquet as pq

        pq.write_table(table, path)
    content = {**json.loads(manifest_path.read_text()), **changes}
    content["parquet_sha256"] = sha256(path.read_bytes())
    del content["manifest_sha256"]
    content = {name: value for name, value in content.items() if value is not ...}
    content["manifest_sha256"] = sha256(canonical_json(content).encode())
    manifest_path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"schema": 2}, "schema is 2 and not 1"),
        ({"rows": 4}, "rows or its seed differ"),
        ({"seed": 1}, "key is not that of its configuration"),
        ({"config": {}}, "key is not that of its configuration"),
        ({"arm": "other"}, "describes study/other seed 0, not study/adam"),
        ({"arm": "a/b"}, "content is wrong"),
        ({"device": ...}, "device is missing"),
        ({"diverged_at": ...}, "diverged_at is missing"),
        ({"key": "0" * 16}, "key is not that"),
    ],
)
def test_a_wrong_manifest_with_right_checksums(store, changes, text):
    store.write(spec(), frame(), facts())
    forge(store)
    store.read(spec())
    forge(store, **changes)
    with pytest.raises(DamagedRun, match=text):
        store.read(spec())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.replace_schema_metadata({}), "belongs to another run"),
        (lambda t: t.drop_columns(["seed"]), "first columns are not seed"),
        (lambda t: t.select(["env_steps", "seed", "loss"]), "first columns"),
        (lambda t: t.slice(1), "rows or its seed differ"),
        (lambda t: t.set_column(2, "loss", t["loss"].cast("float32")), "column loss holds float"),
        (lambda t: t.set_column(1, "env_steps", t["env_steps"].cast("float64")), "env_steps holds"),
        (lambda t: t.set_column(2, "loss", [[1.0, None, 2.0]]), "gaps"),
    ],
)
def test_a_wrong_schema_with_right_checksums(store, change, text):
    import pyarrow.parquet as pq

    store.write(spec(), frame(), facts())
    forge(store, change(pq.ParquetFile(store.path(spec())).read()))
    with pytest.raises(DamagedRun, match=text):
        store.read(spec())


def test_another_runs_files_under_this_name(store):
    store.write(spec(seed=1), frame(), facts())
    store.write(spec(seed=0), frame(), facts())
    store.path(spec(seed=1)).replace(store.path(spec(seed=0)))
    with pytest.raises(DamagedRun, match="checksum differs"):
        store.read(spec(seed=0))
    store.manifest_path(spec(seed=1)).replace(store.manifest_path(spec(seed=0)))
    with pytest.raises(DamagedRun, match="it describes the run"):
        store.read(spec(seed=0))


# --- disks that refuse -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "first"),
    [
        ("write", 1),
        ("write", 2),
        ("fsync", 1),
        ("fsync", 2),
        ("fsync", 3),
        ("replace", 1),
        ("replace", 2),
    ],
)
@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_changes_nothing(store, monkeypatch, function, first, before):
    if before:
        store.write(spec(), frame(2), facts())
    old = everything(store)
    monkeypatch.setattr(files, "os", FaultyOs(function, first))
    with pytest.raises(StoreError, match="No space left on device; free some space") as caught:
        store.write(spec(), frame(), facts())
    monkeypatch.undo()
    assert str(caught.value).startswith("Could not write ") and "\n" not in str(caught.value)
    if (function, first) == ("fsync", 3):  # only the folder's flush failed: both files are whole
        assert len(store.read(spec()).frame) == 3
    else:
        assert everything(store) == old
        assert store.state(spec()) == ("done" if before else "missing")


def test_leftovers_of_a_kill_are_swept(store):
    folder = store.path(spec()).parent
    folder.mkdir(parents=True)
    (folder / f".{spec().key}.parquet.999-0.tmp").write_bytes(b"half")
    (folder / ".0123456789abcdef.parquet.999-0.tmp").write_bytes(b"another run's")
    store.write(spec(), frame(), facts())
    assert [p.name for p in folder.iterdir() if p.suffix == ".tmp"] == [
        ".0123456789abcdef.parquet.999-0.tmp"
    ]


def test_an_unwritable_store_is_found_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for bad in (
        Store(tmp_path / "file", tmp_path / "scratch"),
        Store(tmp_path / "results", tmp_path / "file"),
    ):
        with pytest.raises(StoreError, match=r"Could not write .*Not a directory|File exists"):
            bad.check_writable(spec())
    good = Store(tmp_path / "results", tmp_path / "scratch")
    good.check_writable(spec())
    assert everything(good) == {}
    monkeypatch.setattr(files, "os", FaultyOs("write", code=30))
    with pytest.raises(StoreError, match="Read-only file system; choose a folder you may write"):
        good.check_writable(spec())


# --- locks, states, search ---------------------------------------------------------------------


def test_a_lock_excludes_and_is_let_go(store):
    with store.lock(spec()):
        assert store.state(spec()) == "running"
        assert store.state(spec(seed=1)) == "missing"
        with (
            pytest.raises(RunLocked, match="computing study/adam seed 0"),
            store.lock(spec(), wait=False),
        ):
            pass
    assert not store.is_locked(spec())
    with pytest.raises(ZeroDivisionError), store.lock(spec()):
        raise ZeroDivisionError
    with store.lock(spec(), wait=False):
        pass


def test_a_reader_waits_out_a_writer_between_its_two_files(store, monkeypatch):
    store.write(spec(), frame(2), facts())
    old = everything(store)
    store.write(spec(), frame(3), facts())
    new = store.manifest_path(spec()).read_bytes()
    store.manifest_path(spec()).write_bytes(old[str(store.manifest_path(spec()))])
    with store.lock(spec()):
        monkeypatch.setattr(
            "loptrl.runs.time.sleep", lambda s: store.manifest_path(spec()).write_bytes(new)
        )
        assert len(store.read(spec()).frame) == 3


def test_partial_means_a_checkpoint(store):
    (store.checkpoint_dir(spec()) / "0123" / "step-0000000001").mkdir(parents=True)
    assert store.state(spec()) == "partial"
    other = Store(store.root.parent / "elsewhere", store.scratch)
    assert other.state(spec()) == "missing", "stores that share scratch must not meet in it"


def test_find(store):
    runs = [store.write(spec(seed=s), frame(), facts()) for s in range(20)]
    for run in runs[:3]:
        assert store.find(run.spec.key).spec == run.spec
    assert store.find(runs[0].spec.key[:10].upper() + " ").spec == runs[0].spec
    firsts = [run.spec.key[0] for run in runs]
    twice = next(c for c in firsts if firsts.count(c) > 1)
    with pytest.raises(LoptrlError, match=f"found {firsts.count(twice)} .*give more digits"):
        store.find(twice)
    with pytest.raises(MissingRun, match="found none"):
        store.find("0" * 16)
    for bad in ("", "xyz", "*", "0" * 17):
        with pytest.raises(LoptrlError, match="hex digits"):
            store.find(bad)


def test_iter_manifests(store):
    assert list(store.iter_manifests()) == []
    for seed in range(3):
        store.write(spec(seed=seed), frame(), facts())
    assert sorted(m["seed"] for m in store.iter_manifests()) == [0, 1, 2]
    store.manifest_path(spec(seed=1)).write_text("[]")
    with pytest.raises(DamagedRun, match="not a mapping"):
        list(store.iter_manifests())
    damaged: list[DamagedRun] = []
    assert sorted(m["seed"] for m in store.iter_manifests(damaged=damaged)) == [0, 2]
    assert len(damaged) == 1


def test_reading_results_needs_no_jax(store, library_path):
    store.write(spec(), frame(), facts())
    code = (
        "import sys; from loptrl.drive import load_or_run; from loptrl.runs import Store;"
        f"s = Store({str(store.root)!r}, {str(store.scratch)!r});"
        f"r = load_or_run([s.find({spec().key!r}).spec], None, compute='never', store=s);"
        "assert r.curve('adam', 'updates')[1].shape == (1, 3);"
        "bad = {'jax', 'brax', 'orbax', 'flax', 'optax'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_a_look_at_the_lock_does_not_refuse_it(store):
    """`is_locked` holds it for a moment."""
    with store.lock(spec()):
        pass
    looked = threading.Event()

    def look() -> None:
        handle = os.open(store._lock_path(spec()), os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_SH)
        looked.set()
        time.sleep(0.01)
        os.close(handle)

    thread = threading.Thread(target=look)
    thread.start()
    assert looked.wait(5)
    with store.lock(spec(), wait=False):
        pass
    thread.join()
