"""`loptrl bench` beside other people's code, here stand-ins for their checkouts."""

from __future__ import annotations

import dataclasses
import datetime
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from loptrl import bench, status_page
from loptrl.errors import LoptrlError, StoreError

TRAIN = """
import jax, jax.numpy as jnp

def make_train(config):
    assert config["NUM_ENVS"] == 64 and not config["VISUALISE"]
    steps = config["TOTAL_TIMESTEPS"]
    def train(theta, key):
        assert theta["w"].shape == (6,)
        return jax.random.normal(key, (steps // 8192,)) + theta["w"].sum()
    return jax.jit(train)
"""
NETWORK = """
import jax.numpy as jnp

class GRU_Opt:
    def __init__(self, hidden_size, gru_features):
        assert (hidden_size, gru_features) in ((16, 8), (32, 16))
    def init(self, key):
        return {"w": jnp.zeros(6)}
"""
PPO = """
import jax

def make_train(config):
    assert config["ENV_NAME"] == "Breakout-MinAtar" and not config["DEBUG"]
    return lambda key: jax.random.normal(key, (config["TOTAL_TIMESTEPS"] // 8192,))
"""


@pytest.fixture
def checkouts(tmp_path):
    files = {
        "open/rl_optimizer/train.py": TRAIN,
        "open/rl_optimizer/network.py": NETWORK,
        "open/rl_optimizer/configs.py": "all_configs = {'breakout': {'NUM_ENVS': 64}}",
        "pure/purejaxrl/ppo.py": PPO,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    weights = tmp_path / "open" / "rl_optimizer" / "pretrained"
    weights.mkdir()
    for name in ("breakout", "multi"):
        np.save(weights / f"{name}_OPEN.npy", np.arange(6, dtype=np.float32))
    return bench.Checkouts(tmp_path / "open", tmp_path / "pure", Path(sys.executable))


def test_theirs_stand_beside_ours_unless_something_is_named(checkouts):
    assert checkouts.arms() == [
        "open_multitask/breakout.open",
        "official:open",
        "open_multitask/breakout.open_multi",
        "official:open_multi",
        "open_multitask/breakout.adam",
        "purejaxrl",
    ]
    assert bench.Checkouts().arms() == []


def test_their_rates_are_measured_where_their_code_is(checkouts):
    table = bench.report(0.1, ["purejaxrl", "official:open", "official:open_multi"], checkouts)
    rows = re.findall(r"^(\S+) +([\d,]+) env steps/s on \d devices, peak ([\d.]+)", table, re.M)
    assert [name for name, *_ in rows] == [
        "purejaxrl", "official:open", "official:open_multi", "purejaxrl",
    ]  # fmt: skip
    assert all(int(rate.replace(",", "")) > 0 and float(peak) > 0.05 for _, rate, peak in rows)


def test_what_fails_there_is_said(checkouts):
    (checkouts.purejaxrl / "purejaxrl" / "ppo.py").write_text("import nowhere_to_be_found")
    with pytest.raises(LoptrlError, match="purejaxrl failed: ModuleNotFoundError: No module named"):
        bench.report(0.1, ["purejaxrl"], checkouts)


def test_a_pair_has_a_ratio_of_its_own(checkouts, monkeypatch):
    rates = {"open_multitask/breakout.adam": 60_000.0, "purejaxrl": 40_000.0}

    def measured(name, seconds, where):
        return {"env_steps_per_s": rates[name], "devices": 2, "peak_memory_gib": 1.0}

    monkeypatch.setattr(bench, "_in_process", measured)
    table = bench.report(1.0, ["open_multitask/breakout.adam", "purejaxrl"], checkouts)
    last = "open_multitask/breakout.adam makes 1.50 times the env steps/s of purejaxrl"
    assert table.splitlines()[-1] == last


def test_what_is_kept_is_what_the_status_page_shows(checkouts, monkeypatch, tmp_path):
    def measured(name, seconds, where):
        return {"env_steps_per_s": 1500.0, "devices": 2, "peak_memory_gib": 0.5}

    monkeypatch.setattr(bench, "_in_process", measured)
    file = tmp_path / "new" / "speed.csv"
    assert "No measurement is stored" in status_page.speed(file)
    told = bench.report(3.0, [bench.META, bench.EVOLUTION], to=file)
    shown = status_page.speed(file)
    assert shown.count("| 1,500 | 1.00 |") == 3 and "3 s each" in shown
    assert "in multiples of meta" in shown and datetime.date.today().isoformat() in shown
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as error:
        bench.report(3.0, [bench.META, bench.EVOLUTION], to=tmp_path / "file" / "speed.csv")
    assert told in str(error.value), "what took minutes is not lost"
    file.write_text("# something\nelse\n")
    with pytest.raises(LoptrlError, match="measure again"):
        status_page.speed(file)


def test_their_interpreter_is_asked_for_and_named_where_it_is_not(checkouts, tmp_path):
    with pytest.raises(LoptrlError, match="name it with --their-python PATH"):
        bench.report(0.1, ["purejaxrl"], dataclasses.replace(checkouts, python=None))
    nowhere = dataclasses.replace(checkouts, python=tmp_path / "python")
    with pytest.raises(LoptrlError, match=r"could not run .*python: No such file"):
        bench.report(0.1, ["purejaxrl"], nowhere)
