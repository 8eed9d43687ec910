"""`loptrl bench` beside other people's code, here stand-ins for their checkouts."""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl import bench, bench_floor, bench_measure, bench_ratios, status_page
from loptrl.errors import LoptrlError, StoreError
from loptrl.optimizers import open as open_rule
from loptrl.studies import meta_recipes

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
META_PPO = """
import time
import jax

# Two meta-iterations that compile, then one every two seconds.
ends = [100.0, 190.0, 192.0, 194.0]
clock = time.perf_counter

class Logger:
    info = print

class MetaPPO:
    def __init__(self, cfg):
        assert open(cfg["logs_dir"] + "log", "w") and cfg["max_devices_per_host"] == 1
        assert cfg["env"]["num_envs"] == 2 * cfg["batch_size"] == 128
        self.cfg, self.logger = cfg, Logger()
    def train(self):
        steps, agent = self.cfg["env"]["train_steps"], self.cfg["agent"]
        a_step = self.cfg["batch_size"] * agent["rollout_steps"] * agent["num_minibatches"]
        self.logger.info("total iterations")
        for t in range(steps // (a_step * agent["inner_updates"])):
            jax.random.normal(jax.random.PRNGKey(t), (100, 100)).block_until_ready()
            time.perf_counter = lambda: ends[t]
            self.logger.info(f"<1> Iteration {t}")
            time.perf_counter = clock
"""


@pytest.fixture
def checkouts(tmp_path):
    files = {
        "open/rl_optimizer/train.py": TRAIN,
        "open/rl_optimizer/network.py": NETWORK,
        "open/rl_optimizer/configs.py": "all_configs = {'breakout': {'NUM_ENVS': 64}}",
        "pure/purejaxrl/ppo.py": PPO,
        "optim4rl/agents/MetaPPO.py": META_PPO,
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    weights = tmp_path / "open" / "rl_optimizer" / "pretrained"
    weights.mkdir()
    for name in ("breakout", "multi"):
        np.save(weights / f"{name}_OPEN.npy", np.arange(6, dtype=np.float32))
    return bench.Checkouts(
        tmp_path / "open", tmp_path / "pure", tmp_path / "optim4rl", Path(sys.executable)
    )


def test_theirs_stand_beside_ours_unless_something_is_named(checkouts):
    assert checkouts.arms() == [
        "open_multitask/breakout.open",
        "official:open",
        "open_multitask/breakout.open_multi",
        "official:open_multi",
        "open_multitask/breakout.adam",
        "purejaxrl",
        "meta:small",
        "optim4rl:meta",
    ]
    assert bench.Checkouts().arms() == []


def test_their_rates_are_measured_where_their_code_is(checkouts):
    names = ["purejaxrl", "official:open", "official:open_multi", "optim4rl:meta"]
    table = bench.report(0.1, names, checkouts, rounds=1)
    rows = re.findall(r"^(\S+) +([\d,]+) env steps/s on \d devices, peak ([\d.]+)", table, re.M)
    assert [name for name, *_ in rows] == names
    assert all(int(rate.replace(",", "")) > 0 and float(peak) > 0.05 for _, rate, peak in rows)
    # As many env steps as ours makes in a meta-iteration, every two seconds once both compiled.
    config = meta_recipes.recipe("optim4rl", "stationary").config
    ours = dataclasses.replace(config, agents=1, num_envs=128).env_steps_per_slice
    assert rows[-1][1] == f"{ours / 2:,.0f}"


def test_what_fails_there_is_said(checkouts):
    (checkouts.purejaxrl / "purejaxrl" / "ppo.py").write_text("import nowhere_to_be_found")
    with pytest.raises(LoptrlError, match="purejaxrl failed: ModuleNotFoundError: No module named"):
        bench.report(0.1, ["purejaxrl"], checkouts)


def test_a_meta_training_that_ends_early_is_no_measurement(checkouts):
    early = META_PPO.replace("for t in range(steps", "for t in range(-1 + steps")
    (checkouts.optim4rl / "agents" / "MetaPPO.py").write_text(early)
    with pytest.raises(LoptrlError, match="RuntimeError: it ended after 3 of 4 meta-iterations"):
        bench.report(0.1, ["optim4rl:meta"], checkouts)


def test_a_ratio_is_taken_within_a_round(checkouts, monkeypatch):
    """Both slow down threefold in the second round; their ratio does not notice."""
    ours, theirs = "open_multitask/breakout.adam", "purejaxrl"
    rates = iter([60_000.0, 40_000.0, 20_000.0, 16_000.0, 40_000.0, 20_000.0])
    measured_in_turn = []

    def measured(name, seconds, where):
        measured_in_turn.append(name)
        return {"env_steps_per_s": next(rates), "devices": 2, "peak_memory_gib": 1.0}

    monkeypatch.setattr(bench, "_in_process", measured)
    table = bench.report(1.0, [ours, theirs, ours], checkouts, rounds=3).splitlines()
    assert measured_in_turn == [ours, theirs] * 3, "named twice is measured as if named once"
    assert table[1].startswith(f"{theirs:<{len(ours)}}     20,000 env steps/s [16,000 to 40,000 in")
    assert table[1].endswith(f"0.67 of {ours}")
    assert table[-1] == (
        f"{ours} makes 1.50 times the env steps/s of {theirs} [1.25 to 2.00 in 3 rounds] (1 wanted)"
    )
    with pytest.raises(LoptrlError, match="rounds must be at least 1, got 0"):
        bench.report(1.0, [ours], checkouts, rounds=0)


def test_what_is_kept_is_what_the_status_page_shows(monkeypatch, tmp_path):
    names = [bench_ratios.EVOLUTION_ALL, bench_ratios.EVOLUTION]
    rates = iter([1500.0, 1000.0, 1700.0, 1000.0] * 2)

    def measured(name, seconds, where):
        return {"env_steps_per_s": next(rates), "devices": 2, "peak_memory_gib": 0.5}

    monkeypatch.setattr(bench, "_in_process", measured)
    folder = tmp_path / "new"
    assert "No measurement is stored" in status_page.speed(folder)
    told = bench.report(3.0, names, to=folder / "a.csv", rounds=2)
    shown = status_page.speed(folder)
    assert "| evolution:all | 1,600 | 1,500 to 1,700 |  | 1.00 | 2 | 0.50 |" in shown
    assert "in multiples of the first" in shown and "3 s each" in shown
    assert datetime.date.today().isoformat() in shown
    assert "| 1.60 | 1.50 to 1.70 | 2 | at least 1.7 |" in status_page.speed_ratios(folder)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as error:
        bench.report(3.0, names, to=tmp_path / "file" / "a.csv", rounds=2)
    assert told in str(error.value), "what took minutes is not lost"
    (folder / "b.csv").write_text("# something\nelse\n")
    with pytest.raises(LoptrlError, match=r"b\.csv.*measure again"):
        status_page.speed(folder)


def test_what_was_measured_before_a_failure_is_not_lost(monkeypatch, tmp_path):
    def measured(name, seconds, where):
        if name == bench_ratios.EVOLUTION:
            raise LoptrlError("the measurement of evolution failed: no memory")
        return {"env_steps_per_s": 1500.0, "devices": 2, "peak_memory_gib": 0.5}

    monkeypatch.setattr(bench, "_in_process", measured)
    with pytest.raises(LoptrlError, match=r"no memory; what was measured before:\nmeta +1,500 env"):
        bench.report(3.0, [bench_ratios.META, bench_ratios.EVOLUTION])
    bench.report(3.0, [bench_ratios.META], to=tmp_path / "a.csv", rounds=1)
    assert "| meta | 1,500 |  | at least 15,000 | 1.00 |" in status_page.speed(tmp_path)
    with pytest.raises(LoptrlError, match=r"name that ends in \.csv, got speed;"):
        bench.report(3.0, [bench_ratios.META], to=Path("speed"))


def test_what_theirs_ran_with_is_kept(checkouts, monkeypatch, tmp_path):
    ours, theirs = "open_multitask/breakout.adam", "purejaxrl"

    def measured(name, seconds, where):
        packages = {"packages": "jax 0.4.13 and gymnax 0.0.6"} if name == theirs else {}
        return {"env_steps_per_s": 1500.0, "devices": 2, "peak_memory_gib": 0.5} | packages

    monkeypatch.setattr(bench, "_in_process", measured)
    bench.report(3.0, [ours, theirs], checkouts, to=tmp_path / "a.csv", rounds=1)
    shown = status_page.speed(tmp_path)
    assert "| purejaxrl (jax 0.4.13 and gymnax 0.0.6) | 1,500 |" in shown
    assert "breakout.adam | 1,500 |" in shown
    assert "| purejaxrl | jax 0.4.13 and gymnax 0.0.6 | 1.00 |" in status_page.speed_ratios(
        tmp_path
    )


def test_their_interpreter_is_asked_for_and_named_where_it_is_not(checkouts, tmp_path):
    without = dataclasses.replace(checkouts, python=None)
    with pytest.raises(LoptrlError, match="name it with --their-python PATH"):
        bench.report(0.1, ["purejaxrl"], without)
    assert without.folder("optim4rl:meta") == checkouts.optim4rl, "runs with what ours has"
    nowhere = dataclasses.replace(checkouts, python=tmp_path / "python")
    with pytest.raises(LoptrlError, match=r"could not run .*python: No such file"):
        bench.report(0.1, ["purejaxrl"], nowhere)


def test_a_floor_stands_beneath_its_arm(monkeypatch):
    arm = "open_multitask/breakout.open_own"
    rates = {arm: 20_000.0, bench_ratios.FLOOR + arm: 50_000.0}

    def measured(name, seconds, where):
        return {"env_steps_per_s": rates[name], "devices": 2, "peak_memory_gib": 1.0}

    monkeypatch.setattr(bench, "_in_process", measured)
    table = bench.report(1.0, list(rates), rounds=1)
    assert table.splitlines()[-1] == f"{arm} makes 0.40 times the env steps/s of floor:{arm}"
    with pytest.raises(
        LoptrlError, match="floor: with an arm of a learned rule, got floor:open_mu"
    ):
        bench.report(1.0, [arm, "floor:open_multitask/breakout.adam"])


def test_a_floor_is_the_agent_with_adam_and_the_arithmetic(monkeypatch):
    """OPEN's 60 k parameters at 1 GFLOP/s, by hand: 1,080 products and sums for each of them."""
    spent = SimpleNamespace(params=jnp.zeros(60_000))
    asked = []
    monkeypatch.setattr(
        bench_measure, "_trained", lambda spec, s: (asked.append(spec), (8e4, spent))[1]
    )
    monkeypatch.setattr(bench_floor, "machine_rates", lambda: (1e9, math.inf))
    found = bench_measure.measure_floor("floor:open_multitask/breakout.open_own", 1.0)[
        "env_steps_per_s"
    ]
    (spec,) = asked
    assert spec.config["optimizer"]["name"] == "adam"
    # 32 updates for 64 x 128 env steps.
    seconds = 1 / found - 1 / 8e4
    operations = seconds / (32 / 8192) * 1e9 / 60_000
    gru, head = (19 + 8) * 3 * 8, 8 * 16 + 16 * 16 + 16 * 3
    assert 2 * (gru + head) < operations < 1.6 * 2 * (gru + head)


def test_what_is_counted_grows_with_the_rule():
    """Gates of the GRU: 16 sigmoids and 8 tanh small, 32 and 16 large, and 7 logarithms of both."""
    counted = {}
    for size in open_rule.SIZES:
        theta = open_rule.init_theta(jax.random.key(0), size=size)
        counted[size] = bench_floor.arithmetic(open_rule.build(theta))
    assert counted["small"][1] >= 24 + 7 and counted["large"][1] >= 48 + 7
    assert 2.0 < counted["large"][0] / counted["small"][0] < 4.0


def test_rates_of_this_machine_are_of_its_size():
    operations, transcendentals = bench_floor.machine_rates()
    assert 1e9 < operations < 1e15 and 1e7 < transcendentals < operations


def test_ratios_say_what_was_wanted(tmp_path):
    file = tmp_path / "a.csv"
    assert status_page.speed_ratios(tmp_path) == "Nothing yet."
    rates = {
        bench_ratios.EVOLUTION_ALL: 30_000,
        bench_ratios.EVOLUTION: 15_000,
        "open_multitask/breakout.open": 37_000,
    }
    rows = [f"{name},{rate},2,0.5," for name, rate in rates.items()]
    head = "# a day\nwhat,env_steps_per_s,devices,peak_memory_gib,packages\n"
    file.write_text(head + "\n".join(rows))
    shown = status_page.speed_ratios(tmp_path)
    assert "| evolution:all | evolution |  | 2.00 |  | 1 | at least 1.7 |" in shown
    assert len(shown.splitlines()) == 2 + 1, "nothing of which only one side was measured"
    (tmp_path / "b.csv").write_text(head + "official:open,10000,2,0.5,jax 1")
    assert "official" not in status_page.speed_ratios(tmp_path), "not in the same session"
    file.write_text(file.read_text() + "\nofficial:open,10000,2,0.5,jax 1\n")
    assert "| official:open | jax 1 | 3.70 |  | 1 | at least 2.5 |" in status_page.speed_ratios(
        tmp_path
    )
    for rows in ("", "meta,1,2,0.5,\nmeta,2,2,0.5,\nbrax,1,2,0.5,"):
        file.write_text(head + rows)
        with pytest.raises(LoptrlError, match=r"got \d rows; measure again"):
            status_page.speed(tmp_path)
