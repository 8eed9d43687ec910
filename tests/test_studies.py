"""Studies: their runs and commands, and from a run's configuration to a program."""

from __future__ import annotations

import dataclasses
import itertools
import shlex

import numpy as np
import pytest

from loptrl import cli, studies, weights
from loptrl.drive import load_or_run
from loptrl.envs.drift import Drift
from loptrl.envs.probes import Reach
from loptrl.errors import LoptrlError
from loptrl.ppo.config import OptimizerConfig, PPOConfig
from loptrl.specs import plain
from loptrl.studies.adam_collapse import CONTROL_FRICTIONS, PERIOD, STUDY
from loptrl.studies.base import Arm, Budget, Study
from loptrl.studies.training import check_drift, make_program, make_world, register_world
from probe_runs import SMALL, compilations, play

TINY = Study(
    name="tiny",
    title="A tiny study",
    version=1,
    base={**SMALL, "hidden": [4]},
    arms={
        "plain": Arm("plain", "Adam", "adam", {"optimizer": {"name": "adam"}}),
        "fast": Arm(
            "fast", "Adam, fast", "adam", {"optimizer": {"learning_rate": 0.1}}, {"smoke": 3}
        ),
        "drift": Arm(
            "drift",
            "Adam, drifting",
            "adam",
            {
                "clip_ratio": None,
                "drift": {"friction": {"form": "Steps", "low": 0.5, "high": 2, "period": 128}},
            },
            env_steps={"smoke": 128 * 3},
        ),
    },
    budgets={"smoke": Budget(128 * 2, 2), "laptop": Budget(10**6, 5, {"num_envs": 64})},
)


def test_every_arm_of_every_study_is_a_valid_configuration():
    for name in studies.NAMES:
        study = studies.get(name)
        for budget in study.budgets:
            for spec in study.specs(budget):
                config = study.config_type.from_dict(plain(spec.config))
                assert config.num_slices * config.env_steps_per_slice >= config.env_steps
                if isinstance(config, PPOConfig):
                    parts = [(config.world, config.backend, config.drift)]
                else:
                    parts = [(p.world, config.ppo(p.world).backend, p.drift) for p in config.phases]
                for world, backend, drift in parts:
                    drift = Drift.from_dict(drift, spec.seed)
                    check_drift(drift, world, make_world(world, backend).world)
        assert set(study.looks()) == set(study.arms)


def test_a_learning_rate_of_the_weights_card_tells_runs_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path))
    keys = {}
    for rate in (None, 3e-4, 1e-3):
        card = {"family": "optim4rl", **({"options": {"learning_rate": rate}} if rate else {})}
        path = tmp_path / "weights" / "optim4rl" / f"mine_{rate}.npz"
        weights.save(path, {"w": np.ones(3, np.float32)}, card)
        rule = {"name": "optim4rl", "weights": f"optim4rl/mine_{rate}"}
        config = STUDY.config("adam", optimizer=rule)
        keys[rate] = config.optimizer.learning_rate
        given = STUDY.config("adam", optimizer={**rule, "learning_rate": 2e-3})
        assert given.optimizer.learning_rate == 2e-3
    # The rule's own, 3e-4, is named nowhere: stored runs keep their names.
    assert keys == {None: None, 3e-4: None, 1e-3: 1e-3}


def test_the_runs_of_study_1():
    specs = STUDY.specs("laptop")
    count = {arm: sum(s.arm == arm for s in specs) for arm in STUDY.arms}
    assert count["stationary"] == count["adam"] == count["equal_99"] == 5
    assert count["no_clip"] == count["equal_997"] == 3 and count["control_0.2"] == 1
    assert len({spec.key for spec in specs}) == len(specs)
    adam, no_clip = STUDY.config("adam"), STUDY.config("no_clip")
    assert no_clip == dataclasses.replace(adam, clip_ratio=None, max_grad_norm=None)
    assert STUDY.config("stationary") == dataclasses.replace(adam, drift={})
    equal = STUDY.config("equal_99")
    assert equal == dataclasses.replace(
        adam, optimizer=dataclasses.replace(adam.optimizer, b1=0.99, b2=0.99)
    )
    drift = Drift.from_dict(adam.drift, seed=0)
    frictions = {float(drift.at(i * PERIOD, 8).friction) for i in range(10)}
    assert len(frictions) == 10 and min(frictions) >= 0.02 and max(frictions) <= 2
    for friction in CONTROL_FRICTIONS:
        config = STUDY.config(f"control_{friction:g}")
        fixed = Drift.from_dict(config.drift)
        values = [float(fixed.at(s, 8).friction) for s in (0, 10**7)]
        assert values == pytest.approx([friction, friction], rel=1e-6)
        assert config.env_steps == 10_000_000


def test_the_order_of_settings():
    assert TINY.config("plain", "smoke").env_steps == 256
    assert TINY.config("drift", "smoke").env_steps == 384  # the arm's over the budget's
    assert TINY.config("plain", "laptop").num_envs == 64  # the budget's over the base
    assert TINY.config("plain", "laptop", num_envs=32).num_envs == 32  # the caller's over all
    assert [(s.arm, s.seed) for s in TINY.specs("smoke")] == [
        ("plain", 0), ("fast", 0), ("drift", 0), ("plain", 1), ("fast", 1), ("drift", 1),
        ("fast", 2),
    ]  # fmt: skip
    assert len(TINY.specs("smoke", ["fast"], seeds=1)) == 1


def test_the_command_makes_the_same_runs():
    text = TINY.command("smoke", ["plain", "fast"], 2, env_steps=512)
    assert (
        text == "loptrl run tiny --budget smoke --arm plain --arm fast --seeds 2 -p env_steps=512"
    )
    settings = {
        "normalize_rewards": False,
        "clip_ratio": None,
        "hidden": [16, 16],
        "optimizer": {"name": "adam", "learning_rate": 1e-4},
        "activation": "relu",
    }
    rule = OptimizerConfig(learning_rate=1e-4)
    assert TINY.command("smoke", optimizer=rule) == TINY.command("smoke", optimizer=rule.to_dict())
    words = shlex.split(TINY.command("smoke", ["plain"], **settings))
    pairs = [word for before, word in itertools.pairwise(words) if before == "-p"]
    read = {name: cli._value(text) for name, text in cli._settings(tuple(pairs)).items()}
    assert TINY.config("plain", "smoke", **read) == TINY.config("plain", "smoke", **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: studies.get("nope"), "unknown study 'nope': expected one of adam_collapse"),
        (lambda: TINY.specs("huge"), "unknown budget 'huge' of tiny: expected one of smoke"),
        (lambda: TINY.specs("smoke", ["slow"]), "unknown arm 'slow' of tiny: expected one of"),
        (lambda: TINY.specs("smoke", seeds=0), "seeds must be a whole number of at least 1, got 0"),
        (lambda: TINY.specs("smoke", seeds=1.5), r"seeds must be a whole number .*, got 1\.5"),
        (lambda: TINY.specs("smoke", seeds=True), r"seeds must be a whole number .*, got True"),
        (lambda: TINY.specs("smoke", colour=1), "unknown setting 'colour'"),
        (lambda: TINY.specs("smoke", ["fast", "fast"]), "arms fast and fast are the same run"),
        (lambda: TINY.specs("smoke", optimizer={}), r"arms plain and fast are the same run"),
        (lambda: TINY.specs("smoke", drift={"wind": {}}), "a drift has the channels"),
        (lambda: make_world("cheetah", "spring"), "unknown world 'cheetah': expected one of ant, "),
        (lambda: make_world("ant", "mjx"), "unknown backend 'mjx'"),
        (lambda: register_world("ant", Reach), "expected a free name for a world, 'ant' is taken"),
    ],
)  # fmt: skip
def test_mistakes(call, message):
    with pytest.raises(LoptrlError, match=message):
        call()


CHANGES = {
    "friction": {"form": "Steps", "low": 0.5, "high": 2.0, "period": 128},
    "strength": {"form": "Wear", "most": 0.4, "period": 512},
    "damping": {"form": "Linear", "low": 0.0, "high": 1.0, "period": 512},
    "faults": {"form": "Faults", "probability": 0.5, "period": 128},
}
BODY = ["friction", "strength", "damping", "faults"]


@pytest.mark.parametrize(
    ("world", "backend", "can"),
    [
        ("ant", "spring", BODY),
        ("ant", "positional", BODY),
        ("ant", "generalized", ["friction", "strength", "faults"]),
        ("breakout", "spring", []),
        ("probe_endless", "spring", []),
        ("probe_reach", "spring", ["friction", "strength"]),
    ],
)
def test_a_change_without_effect_is_refused(world, backend, can):
    made = make_world(world, backend).world
    for name, form in CHANGES.items():
        drift = Drift.from_dict({name: form})
        if name in can:
            check_drift(drift, world, made)
            continue
        with pytest.raises(LoptrlError, match=f"what can change in {world} .*, got {name}; leave"):
            check_drift(drift, world, made)
    check_drift(Drift.none(), world, made)


def test_a_run_is_not_begun_with_a_change_without_effect():
    settings = {"world": "probe_choice", "drift": {"friction": CHANGES["friction"]}}
    (spec,) = TINY.specs("smoke", ["plain"], 1, **settings)
    with pytest.raises(LoptrlError, match=r"in probe_choice \(nothing\), got friction"):
        make_program(spec)


def test_runs_that_differ_in_numbers_share_one_compiled_agent(store):
    """A new seed, learning rate, clip or drift compiles nothing."""
    one, *others = TINY.specs("smoke")
    first = make_program(one)
    _, rows = play(first)
    results = [rows[-1]["weight_norm"]]
    with compilations() as compiled:
        for spec in others:
            program = make_program(spec)
            assert program.agent is first.agent
            results.append(play(program)[1][-1]["weight_norm"])
    assert compiled == []
    assert len(set(results)) == len(results), "every run is another one"


def test_a_study_computes_reads_and_finds_what_is_stored(store):
    assert TINY.load_stored("smoke", store=store).runs == []
    done = TINY.load_or_run("smoke", ["plain"], 1, store=store, progress=False)
    assert list(done.arms) == ["plain"]
    (run,) = TINY.load_stored("smoke", store=store).runs
    assert run.spec == TINY.specs("smoke", ["plain"], 1)[0]
    never = TINY.load_or_run("smoke", ["plain"], 1, store=store, compute="never")
    assert never.runs[0].frame.equals(run.frame)
    with pytest.raises(LoptrlError, match=r"seed 1 .* compute=.missing. computes them"):
        TINY.load_or_run("smoke", ["plain"], 2, store=store, compute="never")
    with pytest.raises(LoptrlError, match=r"`loptrl run adam_collapse --budget smoke --arm adam`"):
        STUDY.load_or_run("smoke", ["adam"], store=store, compute="never")


def test_a_wild_learning_rate_is_a_diverged_run(store):
    wild = {"optimizer": {"learning_rate": 1e38}, "max_grad_norm": None}
    (spec,) = TINY.specs("smoke", ["plain"], 1, **wild)
    (run,) = load_or_run([spec], make_program, store=store, progress=False).runs
    assert run.manifest["diverged_at"] is not None
    assert run.frame["env_steps"].iloc[-1] == run.manifest["diverged_at"]
