"""Metric rows: what a checkpoint's JSON gives back is what went in, to the bit."""

from __future__ import annotations

import json
import struct

import numpy as np

from loptrl.rows import clean
from loptrl.specs import RunSpec

SPEC = RunSpec("study", "arm", "smoke", 1, 0, {})


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def test_rows_survive_json_bit_for_bit():
    """A NaN with a sign, as 0/0 gives on x86, would come back without it."""
    signed = struct.unpack("<d", struct.pack("<Q", 0xFFF8 << 48))[0]
    row = {
        "env_steps": 1,
        "float": signed,
        "scalar": np.float32(signed),
        "infinite": -np.inf,
        "third": np.float32(1 / 3),
        "zero": -0.0,
    }
    (kept,) = clean([row], [], SPEC)
    back = json.loads(json.dumps(kept))
    assert {name: bits(value) for name, value in back.items()} == {
        name: bits(value) for name, value in kept.items()
    }
    assert np.isnan(kept["float"]) and np.isnan(kept["scalar"])
    assert bits(kept["zero"]) == bits(-0.0) and kept["third"] == float(np.float32(1 / 3))
