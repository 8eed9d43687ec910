"""Preparing the devices: before jax starts one per core, afterwards what there is."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import jax
import pytest

from loptrl import checkpoints, devices, paths


def test_once_jax_runs_its_devices_stay(monkeypatch):
    assert jax.device_count() == 2
    monkeypatch.setenv("XLA_FLAGS", "--something=1")
    before = jax.config.jax_compilation_cache_dir
    try:
        with pytest.warns(RuntimeWarning, match="Expected 7 host devices, got 2, which changes"):
            assert devices.prepare(7) == jax.device_count()
        assert devices.prepare(2) == 2
        assert os.environ["XLA_FLAGS"] == "--something=1"
        assert jax.config.jax_compilation_cache_dir == str(paths.cache_dir() / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize("before", ["", "import jax; "])
@pytest.mark.parametrize(
    ("flags", "argument", "expected"),
    [
        ("", "", len(os.sched_getaffinity(0))),
        ("", "3", 3),
        ("--xla_force_host_platform_device_count=5", "3", 5),  # the user's own choice stays
    ],
)
def test_in_a_fresh_process(library_path, before, flags, argument, expected):
    call = f"devices.prepare({argument})"
    code = f"{before}from loptrl import devices; {call}; print({call})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr
    assert "host devices" not in done.stderr


@pytest.fixture
def precision():
    """JAX's own default, whatever the tests run with."""
    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", None)
    yield
    jax.config.update("jax_default_matmul_precision", before)


@pytest.mark.parametrize(
    ("backend", "wanted", "expected"),
    [("gpu", None, "highest"), ("gpu", "tensorfloat32", "tensorfloat32"), ("cpu", None, None)],
)
def test_accelerators_multiply_in_full_precision(monkeypatch, precision, backend, wanted, expected):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    jax.config.update("jax_default_matmul_precision", wanted)
    cache = jax.config.jax_compilation_cache_dir
    try:
        devices.prepare()
        assert jax.config.jax_default_matmul_precision == expected
    finally:
        jax.config.update("jax_compilation_cache_dir", cache)


def test_reduced_precision_is_part_of_the_device(monkeypatch, precision):
    chip = types.SimpleNamespace(platform="gpu", device_kind="Some GPU")
    monkeypatch.setattr(jax, "devices", lambda: [chip])
    assert checkpoints.device() == "1 x gpu (Some GPU, reduced matmul precision)"
    with jax.default_matmul_precision("highest"):
        assert checkpoints.device() == "1 x gpu (Some GPU)"
