"""Runs side by side: one grid of env steps, seeds in order, divergence as NaN."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from loptrl.errors import LoptrlError
from loptrl.runs import Results, Run, RunSpec

CONFIG = {"env": "ant", "ppo": {"lr": 3e-4, "clip": None, "sizes": [64, 64]}, "steps": 1e6}


def spec(seed: int = 0, arm: str = "adam", **config) -> RunSpec:
    return RunSpec("study", arm, "smoke", 1, seed, {**CONFIG, **config})


def in_memory(seed: int, steps: list[int], values: list[float], diverged: int | None = None) -> Run:
    rows = pd.DataFrame({"seed": seed, "env_steps": steps, "r": values, "never": math.nan})
    return Run(spec(seed=seed), rows, {"diverged_at": diverged, "seed": seed})


def test_curves_are_seeds_by_steps():
    results = Results([in_memory(1, [10, 20], [3.0, 4.0]), in_memory(0, [10, 20], [1.0, 2.0])])
    steps, values = results.curve("adam", "r")
    assert steps.tolist() == [10, 20]
    assert values.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert results.arms == ["adam"]
    assert results.frame("adam")["r"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert [m["seed"] for m in results.manifests()] == [1, 0]
    assert results.curve("adam", "never")[1].shape == (2, 0)


def test_a_diverged_run_is_nan_from_its_end_and_rare_metrics_keep_their_rows():
    results = Results(
        [
            in_memory(0, [10, 20, 30, 40], [1.0, math.nan, 3.0, math.nan]),
            in_memory(1, [10, 20, 25], [5.0, math.nan, math.nan], diverged=25),
        ]
    )
    steps, values = results.curve("adam", "r")
    assert steps.tolist() == [10, 30]
    assert np.array_equal(values, [[1.0, 3.0], [5.0, math.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("arm", "metric", "text"),
    [
        ("rmsprop", "r", "one of the arms adam, got 'rmsprop'"),
        ("adam", "q", "one of the metrics r, never, got 'q'"),
        ("adam", "r", "seed 1 differs from seed 0"),
    ],
)
def test_mistakes_with_results(arm, metric, text):
    results = Results([in_memory(0, [10, 20, 30], [1, 2, 3]), in_memory(1, [10, 20], [1, 2])])
    with pytest.raises(LoptrlError, match=text):
        results.curve(arm, metric)
