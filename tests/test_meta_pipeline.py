"""Meta-training: ages, agents side by side, skipped gradients, curricula, resumption."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loptrl import cli, optimizers, weights
from loptrl.drive import load_or_run
from loptrl.errors import LoptrlError, Stopped
from loptrl.meta import fitting
from loptrl.meta.config import WITH_LEARNING_RATE, MetaConfig
from loptrl.meta.es_config import EvolutionConfig
from loptrl.meta.pipeline import Ages, reset_indices
from loptrl.meta.program import MetaProgram
from loptrl.runs import RunSpec
from loptrl.studies import meta_runs, meta_training
from loptrl.studies.meta_training import make_meta_program
from probe_runs import leaves

SMALL: dict[str, Any] = {
    "env_steps": 6 * 2 * 4 * (2 * 4 + 3),
    "agents": 2,
    "reset_interval": 3,
    "inner_updates": 2,
    "meta_rollout_length": 3,
    "meta_learning_rate": 1e-3,
    "num_envs": 4,
    "agent": {"rollout_length": 4, "minibatches": 2, "epochs": 1, "hidden": [3]},
    "phases": [{"world": "probe_reach"}],
}


def spec(seed: int = 0, **settings: Any) -> RunSpec:
    config = MetaConfig.from_dict({**SMALL, **settings})
    return RunSpec("meta", "probe", "smoke", 1, seed, config.to_dict())


def play(program: MetaProgram) -> tuple[Any, list[dict[str, float]]]:
    state, rows = program.init(), []
    for _ in range(program.num_slices):
        state, new = program.advance(state)
        rows += new
        if rows[-1]["diverged"]:
            break
    return state, rows


def test_a_phase_is_not_begun_with_a_change_without_effect():
    drift = {"friction": {"form": "Linear", "low": 1.0, "high": 2.0, "period": 64}}
    phases = [{"world": "probe_reach", "drift": drift}, {"world": "probe_endless", "drift": drift}]
    with pytest.raises(LoptrlError, match=r"in probe_endless \(nothing\), got friction"):
        make_meta_program(spec(phases=phases))


@pytest.mark.parametrize(("agents", "interval"), [(1, 5), (4, 32), (8, 128), (3, 2), (5, 512)])
def test_ages_follow_the_published_schedule(agents, interval):
    """As in the official loop: agent i is replaced before iteration t when t mod R is its index."""
    index = [int(x) for x in jnp.linspace(0, interval - 1, num=agents)]
    assert list(reset_indices(agents, interval)) == index
    age, life = np.zeros(agents, int), np.zeros(agents, int)
    for t in range(3 * interval):
        due = np.array([t % interval == i for i in index])
        life += due & (t > 0)
        age = np.where(due, 0, age + (t > 0))
        found = Ages.at(t, agents, interval)
        np.testing.assert_array_equal(found.restart, due | (t == 0))
        np.testing.assert_array_equal(found.age, age)
        np.testing.assert_array_equal(found.life, life)


def test_without_pipeline_training_nobody_starts_anew():
    for t in (0, 1, 700):
        found = Ages.at(t + 5, 3, None, since=5)
        assert list(found.age) == [t] * 3 and list(found.restart) == [t == 0] * 3


@pytest.fixture(scope="module")
def played():
    return play(make_meta_program(spec()))


def test_a_row_for_every_meta_iteration(played):
    _, rows = played
    assert [row["meta_iteration"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[-1]["env_steps"] == SMALL["env_steps"]
    # Indices 0 and 2 of an interval of 3, and all at the start.
    assert [row["restarts"] for row in rows] == [2, 0, 1, 1, 0, 1]
    assert [row["age_mean"] for row in rows] == [0, 1, 1, 0.5, 1.5, 1]
    for row in rows:
        assert np.isfinite([v for k, v in row.items()]).all()
        assert row["skipped"] == 0 and row["theta_update_norm"] > 0
        assert -1 <= row["meta_agreement"] <= 1 + 1e-5


def test_theta_moves_by_what_adam_says(played):
    state, _ = played
    start = make_meta_program(spec()).init()
    moved = np.concatenate(
        [np.ravel(a - b) for a, b in zip(leaves(state.theta), leaves(start.theta), strict=True)]
    )
    assert 0 < np.max(np.abs(moved)) <= 6 * SMALL["meta_learning_rate"] * 1.01


@pytest.mark.parametrize(
    ("limit", "given", "expected"), [(0.0, None, 1), (math.inf, None, 2), (0.0, 1, 1), (0.0, 9, 2)]
)
def test_agents_at_once_are_at_most_those_of_a_device(monkeypatch, limit, given, expected):
    monkeypatch.setattr(fitting, "memory_limit", lambda: limit)
    (pipeline,) = make_meta_program(spec(agents=4), together=given)._pipelines.values()
    monkeypatch.setattr(pipeline, "_jitted", lambda together: together)
    assert pipeline.program("arguments") == expected


@pytest.mark.long
def test_agents_at_once_or_one_after_another(played, monkeypatch):
    """The same agents on one device that has memory for both, stepped together."""
    monkeypatch.setattr(fitting, "memory_limit", lambda: 2.0**40)
    program = make_meta_program(spec())
    (pipeline,) = program._pipelines.values()
    both = type(pipeline)(pipeline.bilevel, 2, devices=1)
    program._pipelines = {"probe_reach": both}
    state, rows = play(program)
    assert both._together == 2
    for a, b in zip(leaves(state.theta), leaves(played[0].theta), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert rows[-1]["meta_loss"] == pytest.approx(played[1][-1]["meta_loss"], rel=1e-3)


def test_a_drift_is_seen_by_each_agent_at_its_own_age():
    drift = {"friction": {"form": "Steps", "low": 0.1, "high": 2.0, "period": 1e9}}
    program = make_meta_program(spec(phases=[{"world": "probe_reach", "drift": drift}]))
    first = [program._dynamics(0, program._ages(t, 0)).friction for t in range(6)]
    assert first[0].shape == (2, 3)
    assert (first[0] == first[0][:, :1]).all(), "one regime in a life"
    assert first[0][0, 0] != first[0][1, 0], "every agent has a drift of its own"
    assert first[1][0, 0] == first[0][0, 0] and first[3][0, 0] != first[2][0, 0], "and every life"
    falling = {"friction": {"form": "Linear", "low": 0.0, "high": 1000.0, "period": 1000.0}}
    program = make_meta_program(spec(phases=[{"world": "probe_reach", "drift": falling}]))
    # 2 iterations of 4 x 4 env steps and 3 x 4 for the meta-loss: 44 in all.
    now = program._dynamics(0, program._ages(1, 0)).friction
    np.testing.assert_allclose(now, [[44, 60, 76]] * 2)


def test_a_curriculum_of_bodies():
    phases = [{"world": "probe_reach"}, {"world": "probe_endless", "share": 2}]
    config = MetaConfig.from_dict({**SMALL, "phases": phases})
    assert config.starts() == [0, 2] and config.worlds == ("probe_reach", "probe_endless")
    _state, rows = play(make_meta_program(spec(phases=phases)))
    assert [row["phase"] for row in rows] == [0, 0, 1, 1, 1, 1]
    assert rows[2]["restarts"] == 2 and rows[2]["age_mean"] == 0
    assert rows[1]["train_episode_length"] == 1 and rows[-1]["train_episode_length"] == 8


def test_gradients_that_are_not_finite_are_skipped_and_end_the_training(monkeypatch):
    kept = []
    program = make_meta_program(spec(max_skipped=3), lambda *made: kept.append(made))
    step = program._pipelines["probe_reach"].step
    calls = []

    def faulty(*args: Any) -> Any:
        agents, (gradients, figures) = step(*args)
        calls.append(1)
        if len(calls) in (2, 4, 5, 6):
            gradients = jax.tree.map(lambda g: g.at[0].set(jnp.nan), gradients)
        return agents, (gradients, figures)

    monkeypatch.setattr(program._pipelines["probe_reach"], "step", faulty)
    state, thetas, rows = program.init(), [], []
    for _ in range(6):
        state, new = program.advance(state)
        rows += new
        thetas.append(leaves(state.theta))
    assert [row["skipped"] for row in rows] == [0, 1, 1, 2, 3, 4]
    assert [row["diverged"] for row in rows] == [False] * 5 + [True]
    same = [all((a == b).all() for a, b in zip(x, y)) for x, y in itertools.pairwise(thetas)]
    assert same == [True, False, True, True, True]
    [(theta, slices)] = kept
    assert slices == 6 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(theta))


def test_an_agent_that_breaks_starts_anew():
    program = make_meta_program(spec(reset_interval=None))
    state, _ = program.advance(program.init())
    keys = [np.array(jax.random.key_data(state.agents["probe_reach"].key))]
    for whole in (4, 6):
        agents = state.agents["probe_reach"]
        params = jax.tree.map(lambda x: x.at[1].set(jnp.inf), agents.params)
        state = state._replace(agents={"probe_reach": agents._replace(params=params)})
        state, rows = program.advance(state)
        assert rows[0]["restarts"] == 1 and rows[0]["skipped"] == 0
        assert list(np.asarray(state.agents["probe_reach"].iteration)) == [whole, 2]
        keys.append(np.array(jax.random.key_data(state.agents["probe_reach"].key)))
    assert len({key[0].tobytes() for key in keys}) == 1
    assert len({key[1].tobytes() for key in keys}) == 3, "no start is the same again"


def test_stopped_and_gone_on_it_ends_with_the_same_weights(store):
    """The state goes through a checkpoint after every meta-iteration."""
    whole, pieces = [], []
    chosen = spec(phases=[{"world": "probe_reach"}, {"world": "probe_endless"}])
    play(make_meta_program(chosen, lambda *made: whole.append(made)))

    class OneSlice:
        """A program that is stopped after each slice."""

        def __init__(self, inner: Any) -> None:
            self.inner, self.num_slices = inner, inner.num_slices
            self.env_steps_per_slice, self.init = inner.env_steps_per_slice, inner.init

        def advance(self, state: Any) -> Any:
            out = self.inner.advance(state)
            raise_signal()
            return out

    def raise_signal() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGTERM)

    stops = 0
    while True:
        try:
            load_or_run(
                [chosen],
                lambda s: OneSlice(make_meta_program(s, lambda *made: pieces.append(made))),
                store=store,
                progress=False,
            )
            break
        except Stopped:
            stops += 1
    assert stops == 5
    (expected, slices), (got, made) = whole[0], pieces[0]
    assert made == slices
    for a, b in zip(leaves(expected), leaves(got), strict=True):
        np.testing.assert_array_equal(a, b)
    assert store.read(chosen).manifest["resumed"] == 5


def test_the_picture_leaves_out_what_is_not_known(tmp_path, monkeypatch):
    """One agent agrees with nobody, and at first no episode may have ended."""
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path))
    known = dict.fromkeys(("meta_loss", "meta_grad_norm", "skipped"), 1.0)
    rows = [
        {"env_steps": i, **known, "meta_agreement": np.nan, "train_return": i or np.nan}
        for i in range(3)
    ]
    meta_runs._painter()(spec(), rows)
    assert meta_runs.picture(spec()).stat().st_size > 10_000


def test_the_command_line(tmp_path, monkeypatch, capsys):
    """Weights with a card, a run, a picture; done once; untrained weights are where it starts."""
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(meta_runs, "_DRAW_EVERY_S", 0.0)
    line = ["meta", "optim4rl", "--name", "mine", "--task", "probe_reach", "--agents", "2"]
    line += ["--num-envs", "4", "--inner-updates", "1", "--env-steps", "400", "--meta-lr", "1e-3"]
    cli.main(line)
    said = capsys.readouterr().out
    (picture,) = (tmp_path / "cache" / "meta").glob("*.png")
    assert str(picture) in said and "2 meta-iterations, 0 skipped" in said
    card = weights.card("mine", "optim4rl")
    assert set(card["command"].split()) == {
        "loptrl",
        *line[:-3],
        "400.0",
        "--meta-lr",
        "0.001",
        "--env-steps",
    }
    assert card["trained_on"] == "probe_reach" and card["options"] == {"learning_rate": 3e-4}
    assert "licence" not in card
    cli.main(["weights", "untrained", "optim4rl"])
    cli.main(["weights", "untrained", "optim4rl"])  # the same numbers
    with pytest.raises(SystemExit):
        cli.main(["weights", "untrained", "optim4rl", "--seed", "5"])
    assert "which stored runs may name" in capsys.readouterr().err
    before, after = (weights.load(name, family="optim4rl") for name in ("untrained", "mine"))
    moved = max(float(np.abs(after.arrays[k] - v).max()) for k, v in before.arrays.items())
    assert 0 < moved <= 2 * 1e-3 * 1.01
    optimizers.optim4rl("mine").init({"w": jnp.zeros(3)})
    ours, made = tmp_path / "data/weights/optim4rl", meta_training.make_meta_program

    def overtaken(*given, **named):
        for end in ("npz", "json"):
            shutil.copy(ours / f"mine.{end}", ours / f"late.{end}")
        return made(*given, **named)

    monkeypatch.setattr(meta_training, "make_meta_program", overtaken)
    with pytest.raises(SystemExit):
        cli.main([*line[:3], "late", *line[4:], "--seed", "1"])
    assert "expected a free name, got 'late'" in capsys.readouterr().err
    assert (ours / "late.npz").read_bytes() == (ours / "mine.npz").read_bytes()
    monkeypatch.setattr(meta_training, "make_meta_program", None)
    cli.main(line)  # it is stored: nothing is trained
    with pytest.raises(SystemExit):
        cli.main([*line, "--seed", "1"])
    assert "expected a free name, got 'mine'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "changes", "words"),
    [
        (["--drift", "none"], [set()], "ant"),
        (["--drift", "friction"], [{"friction"}], "ant (friction changes)"),
        (["--drift", "wear"], [{"strength"}], "ant (wear changes)"),
        (["--drift", "changing"], [{"friction", "strength"}], "ant (friction and wear change)"),
        (
            ["--phase", "ant:none:0.5", "--phase", "humanoid:wear"],
            [set(), {"strength"}],
            "ant, then humanoid (wear changes)",
        ),
    ],
)
def test_what_changes_is_named_on_the_command_line(line, changes, words, monkeypatch, capsys):
    def seen(name, config, trained_on, **rest):
        assert [set(phase.drift) for phase in config.phases] == changes
        assert trained_on == words
        raise LoptrlError("seen")

    monkeypatch.setattr(meta_runs, "train", seen)
    with pytest.raises(SystemExit):
        cli.main(["meta", "optim4rl", "--name", "x", *line])
    assert capsys.readouterr().err == "loptrl: seen\n"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("optim4rl --task ant --drift changing --agents 8 --env-steps 3e7", "ant_changing"),
        ("optim4rl --task humanoid", "humanoid_none"),
        ("optim4rl --phase ant --phase ant:changing:2", "ant_none_then_ant_changing"),
        ("open --tasks breakout,asterix --population 64", "breakout_asterix"),
        ("open --tasks breakout --name mine", "mine"),
        ("open --recipe evolved_breakout", "evolved_breakout"),
    ],
)  # fmt: skip
def test_weights_without_a_name_are_called_by_their_task(line, name, monkeypatch, capsys):
    def seen(name, *given, **named):
        raise LoptrlError(f"called {name}")

    monkeypatch.setattr(meta_runs, "train", seen)
    with pytest.raises(SystemExit):
        cli.main(["meta", *line.split()])
    assert capsys.readouterr().err == f"loptrl: called {name}\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ([], "name the world with --task, or take a --recipe"),
        (["--recipe", "drft"], "unknown recipe 'drft' for optim4rl: expected one of stationary"),
        (["--recipe", "drift", "--agents", "4"], "the weights need a --name, got 'drift'"),
        (["--name", "x", "--drift", "often"], "unknown drift 'often': expected one of none"),
        (["--name", "x", "--phase", "ant:none:half"], "--phase expects WORLD:DRIFT:SHARE"),
        (["--name", "x", "--phase", "ant", "--task", "ant"], "either --phase, or --task"),
        (["--name", "x", "--reset-interval", "never"], "expects a whole number or none"),
        (["--name", "x", "--agents", "0"], "agents must be a whole number of at least 1, got 0"),
        (["--name", "ant"], "optim4rl/ant are published weights; choose another name"),
    ],
)
def test_bad_command_lines(line, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path))
    with pytest.raises(SystemExit):
        cli.main(["meta", "optim4rl", *line])
    said = capsys.readouterr().err
    assert said.startswith("loptrl: ") and words in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rule": "adam"}, "rule must be one of optim4rl"),
        ({"agents": 0}, "agents must be a whole number of at least 1"),
        ({"meta_learning_rate": -1}, "meta_learning_rate must be a number of at least 0"),
        ({"init": "x"}, "init and init_sha256"),
        ({"rematerialize": "all"}, "rematerialize must be one of nothing, updates, iterations"),
        ({"agent": ["x"]}, r"agent must map names to values, got \['x'\]"),
        ({"agent": {"world": "ant"}}, "agent holds what is left of PPOConfig, got 'world'"),
        ({"agent": {"hiden": [3]}}, "unknown setting 'hiden'"),
        ({"phases": []}, "phases must list at least one phase"),
        ({"phases": [{"wrld": "ant"}]}, "unknown setting 'wrld'"),
        ({"phases": [{"drift": {"fricton": {}}}]}, "a drift has the channels"),
        ({"phases": [{}] * 7}, "7 phases need at least as many meta-iterations"),
        ({"unknown": 1}, "unknown setting 'unknown'"),
    ],
)
def test_bad_settings(settings, words):
    with pytest.raises(LoptrlError, match=words):
        MetaConfig.from_dict({**SMALL, **settings})


def test_open_has_no_learning_rate():
    for config in (MetaConfig, functools.partial(EvolutionConfig, learning_rate=3e-4)):
        with pytest.raises(LoptrlError, match=r"open has no learning rate, got 0\.0003; give None"):
            config(rule="open")
    assert MetaConfig(rule="open", learning_rate=None).learning_rate is None
    with_rate = {
        name
        for name, rule in optimizers.LEARNED.items()
        if "learning_rate" in inspect.signature(rule.build).parameters
    }
    assert with_rate == set(WITH_LEARNING_RATE)
