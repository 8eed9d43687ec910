"""Studies 7 and 8: their runs, what is made of them, and their notebooks' cells."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import stored_runs
from loptrl import cli
from loptrl.errors import LoptrlError
from loptrl.meta.config import EDGES, CostConfig, StatisticsConfig
from loptrl.paths import repo_root
from loptrl.results import Results
from loptrl.runs import Store
from loptrl.specs import plain
from loptrl.studies import (
    adam_collapse,
    changing_ant_figures,
    cost_official,
    cost_report,
    gradient_agreement,
    gradient_figures,
    gradient_report,
    gradient_statistics,
    meta_cost,
    meta_runs,
    optim4rl_l2,
    physics_path,
)
from loptrl.studies.gradient_evidence import GradientEvidence, distances_to_iid
from loptrl.studies.meta_recipes import RECIPES

GRADIENTS, COSTS = "08_gradient_statistics", "07_meta_cost"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for weights and runs."""
    folder = tmp_path_factory.mktemp("place")
    patch = pytest.MonkeyPatch()
    patch.setenv("LOPTRL_DATA", str(folder / "data"))
    patch.setenv("LOPTRL_CACHE", str(folder / "cache"))
    shutil.copytree(repo_root() / "data" / "reference", folder / "data" / "reference")
    for number, name in enumerate(("untrained", "small_data", "small_critic", "small_physics")):
        stored_runs.keep_weights(folder / "data", name, {"w": np.full(3, number, np.float32)})
    yield folder
    patch.undo()


def rows(spec) -> pd.DataFrame:
    """Invented rows: agreement is level plus noise by seed, and gradients shrink with age."""
    config = StatisticsConfig.from_dict(plain(spec.config))
    count = config.num_slices
    rng = np.random.default_rng([spec.seed, len(spec.arm)])
    level = 0.02 if config.through_dynamics else 0.6 - 0.3 * bool(config.phases[0].drift)
    frame = {
        "seed": np.full(count, spec.seed),
        "env_steps": (np.arange(count) + 1) * config.env_steps_per_slice,
        "meta_agreement": level + 0.02 * rng.normal() + 0.001 * rng.normal(size=count),
        "meta_sign_agreement": 0.5 + level / 2 + np.zeros(count),
        "meta_grad_norm": np.full(count, 2.0),
        "meta_grad_variance": np.full(count, 16.0),
        "meta_grad_norm_single": np.full(count, 3.0),
        "grad_norm": np.full(count, 1.0),
        "meta_loss": np.full(count, 1.0),
        "train_return": np.arange(count, dtype=float),
    }
    if config.compare_whole:
        frame |= {"whole_cosine": np.full(count, 0.99), "whole_norm_ratio": np.full(count, 0.9)}
    shares = np.zeros((count, len(EDGES) + 1))
    shares[np.arange(count), 30 - np.arange(count) * 16 // count] = 1.0
    frame |= {f"agent_gradient_{i:02d}": column for i, column in enumerate(shares.T)}
    return pd.DataFrame(frame)


def keep(store: Store, spec, frame: pd.DataFrame) -> None:
    steps = int(frame["env_steps"].iloc[-1])
    facts = {**stored_runs.FACTS, "env_steps": steps, "planned_env_steps": steps}
    store.write(spec, frame, {**facts, "diverged_at": None})


def costs_of(spec) -> pd.DataFrame:
    """Costs in proportion to the size, 40 times as much through the physics."""
    config = CostConfig.from_dict(plain(spec.config))
    size = config.num_envs * config.inner_updates * config.agents
    times = 40 if config.through_dynamics else 1
    compiled = 2.0**17 * size * times
    if not config.timed:
        return pd.DataFrame({"seed": [0], "env_steps": [1], "compiled_bytes": [compiled]})
    return pd.DataFrame(
        {
            "seed": [0, 0, 0],
            "env_steps": [1, 2, 3],
            "compiled_bytes": [compiled, np.nan, np.nan],
            "seconds": [np.nan, 0.01 * size * times, 0.02 * size * times],
            "process_bytes": [np.nan, 1e9, 1e9],
        }
    )


@pytest.fixture(scope="module")
def full(place):
    store = Store(place / "data" / "results", place / "scratch")
    for spec in gradient_statistics.STUDY.specs("laptop"):
        keep(store, spec, rows(spec))
    for spec in meta_cost.STUDY.specs("laptop"):
        keep(store, spec, costs_of(spec))
    for spec in adam_collapse.STUDY.specs("laptop", ["adam"]):
        stored_runs.keep(store, spec, 3000.0)
    for spec in physics_path.STUDY.specs("laptop"):
        stored_runs.keep(store, spec, 1000.0 if spec.arm == "small_physics" else 2000.0)
    return store


@pytest.fixture(scope="module")
def both(full):
    return gradient_report.load(store=full, compute="never")


@pytest.fixture(scope="module")
def costs(full):
    return cost_report.load(store=full, compute="never")


@pytest.fixture
def empty(tmp_path):
    return Store(tmp_path / "results", tmp_path / "scratch")


def cells(name: str, names: dict[str, object]) -> tuple[list[Figure], list[str]]:
    """What the notebook's cells draw and say."""
    import jupytext

    figures, texts = [], []
    for cell in jupytext.read(repo_root() / "notebooks" / f"{name}.md").cells:
        source = cell.source.rpartition("\n")[2]
        if cell.cell_type != "code" or "(" not in source:
            continue
        found = eval(source, {**names, "Markdown": str})
        (figures if isinstance(found, Figure) else texts).append(found)
    return figures, texts


def gradient_cells(both) -> tuple[list[Figure], list[str]]:
    names = {
        "evidence": both,
        "report": gradient_report,
        "figures": gradient_figures,
        "changing_ant_figures": changing_ant_figures,
    }
    return cells(GRADIENTS, names)


def cost_cells(costs) -> tuple[list[Figure], list[str]]:
    names = {"evidence": costs, "report": cost_report, "cost_official": cost_official}
    return cells(COSTS, names)


# --- the runs -----------------------------------------------------------------------------------


def test_arms_differ_in_what_they_say(place):
    study = gradient_statistics.STUDY
    for arm in study.arms:
        size, path, world, k = arm.split(".")
        config = study.config(arm)
        assert config.inner_updates == int(k) and config.agents == 8
        assert config.num_envs == (256 if size == "full" else 32)
        assert config.through_dynamics == (path == "physics")
        assert config.policy_in_meta_loss == (path != "critic")
        assert config.compare_whole == (size == "small" and path == "data")
        assert bool(config.phases[0].drift) == (world == "changing")
        assert config.meta_learning_rate == 0 and config.reset_interval is None
        assert config.init == "optim4rl/untrained" and config.init_sha256
    long = study.config("full.data.still.4")
    assert long.num_slices == gradient_statistics.LIFE
    assert study.config("full.data.still.8").env_steps == long.env_steps // 4


def test_sizes_that_do_not_fit_are_not_run(place):
    for arm in meta_cost.STUDY.arms:
        config = meta_cost.STUDY.config(arm)
        fits = not config.through_dynamics or config.num_envs * config.inner_updates <= 512
        short = config.num_envs * config.agents <= 2048
        assert bool(config.timed) == (fits and short), arm
    assert meta_cost.arm_name("official", *meta_cost.OFFICIAL) in meta_cost.STUDY.arms


def test_two_trainings_that_differ_in_the_path_only():
    data, critic, physics = (
        RECIPES["optim4rl"][n].config.to_dict() for n in physics_path.STUDY.arms
    )
    assert critic.pop("policy_in_meta_loss") is False and critic == data
    assert data.pop("through_dynamics") is False and physics.pop("through_dynamics") is True
    assert data == physics and data["num_envs"] == 32


def test_settings_are_those_of_meta_iterations(place, capsys):
    arguments = ["run", "meta_cost", "--budget", "smoke", "--arm", "updates.32.4.1"]
    with pytest.raises(SystemExit, match="2"):
        cli.main([*arguments, "-p", "hidden=3"])
    assert "hidden" in capsys.readouterr().err
    with pytest.raises(LoptrlError, match="timed must be a whole number of at least 0, got -1"):
        meta_cost.STUDY.specs("smoke", timed=-1)
    with pytest.raises(LoptrlError, match="got policy_in_meta_loss=false with it"):
        StatisticsConfig(through_dynamics=True, policy_in_meta_loss=False)
    with pytest.raises(LoptrlError, match="compare_whole is for optim4rl"):
        StatisticsConfig(rule="open", learning_rate=None, compare_whole=True)


def test_a_measurement_of_gradients(empty, monkeypatch):
    """Run for real, on a probe."""
    monkeypatch.delenv("LOPTRL_DATA", raising=False)
    arm = "small.physics.changing.1"
    (run,) = gradient_statistics.STUDY.load_or_run("smoke", [arm], 1, store=empty).runs
    shares = [f"agent_gradient_{i:02d}" for i in range(46)]
    np.testing.assert_allclose(run.frame[shares].sum(axis=1), 1.0, rtol=1e-6)
    assert run.frame["theta_norm"].nunique() == 1
    assert (run.frame["meta_grad_variance"] > 0).all()


@pytest.mark.long
def test_a_measurement_of_cost(empty):
    """Run for real, on a probe."""
    (run,) = meta_cost.STUDY.load_or_run("smoke", ["updates.32.4.1"], 1, store=empty).runs
    assert run.frame["compiled_bytes"].iloc[0] > 0
    assert (run.frame["seconds"].iloc[1:] > 0).all()


# --- what is made of them -----------------------------------------------------------------------


def test_distances_to_iid():
    shares = np.zeros((1, 16, 46))
    shares[0, np.arange(16), 10 + np.arange(16)] = 1.0
    staggered, alike = distances_to_iid(shares)
    # Points at 0, .25 .. 3.75 decades: mean distance to all of them, by hand.
    places = 0.25 * np.arange(16)
    by_hand = np.abs(places[:, None] - places).mean()
    assert alike[0] == pytest.approx(by_hand)
    # Eight of sixteen, every other one: half of a bin from the rest.
    assert staggered[0] == pytest.approx(0.125)
    same = np.repeat(shares[:, :1], 16, axis=1)
    assert np.allclose(distances_to_iid(same), 0.0)


def test_the_verdicts(both):
    found = {name: v.status for name, v in gradient_report.claims(both).items()}
    assert found == {
        "C15 (through the physics)": "undecided",
        "C15 (rollouts as data)": "undecided",
        "C16 (under change)": "supported",
        "C16 (nothing changes)": "supported",
        "H1": "supported",
    }


def test_agreement_is_compared_over_what_arms_share(both, tmp_path):
    """Also before the short arms are stored: a verdict must not hang on what has come already."""
    gradients = both.gradients
    planned = {a: gradients.planned_length(a) for a in gradients.all_arms if a.startswith("full.")}
    assert gradients.shared_length("full.data.still.4") == planned["full.data.still.1"]
    assert planned["full.data.still.1"] < planned["full.data.still.4"]
    few = Store(tmp_path / "results", tmp_path / "scratch")
    for run in gradients.whole("full.data.still.4").runs:
        keep(few, run.spec, run.frame)
    whole = gradients.per_seed("full.data.still.4", "meta_agreement", shared=False)
    assert (whole != gradients.per_seed("full.data.still.4", "meta_agreement")).all()
    alone = gradient_report.load(store=few, compute="never").gradients
    np.testing.assert_array_equal(
        alone.per_seed("full.data.still.4", "meta_agreement"),
        gradients.per_seed("full.data.still.4", "meta_agreement"),
    )
    _, noise = gradients.metric("full.data.still.4", "noise")
    assert np.allclose(noise, 16.0 / (2.0**2 + 16.0 * 7 / 8))
    _, angle = gradients.metric("small.data.still.4", "whole_angle")
    assert np.allclose(angle, np.degrees(np.arccos(0.99)))


def test_the_pages_when_all_is_there(both, costs):
    figures, texts = gradient_cells(both)
    assert len(figures) == 6
    for figure in figures:
        assert figure.axes and figure._repr_png_()
    said = "\n".join(texts)
    assert "in common) of 0.3" in texts[0] and "40.0 times" in said
    assert "the agreement under change is 0.3" in texts[0]
    assert "the path itself lowers it (-0.2" in texts[0]
    assert "with 2 inner updates, agreement -0.2" in said and "with 4 inner updates, final" in said
    assert "Missing" not in said and "no runs" not in said
    figures, texts = cost_cells(costs)
    assert len(figures) == 2 and all(f.axes and f._repr_png_() for f in figures)
    said = "\n".join(texts)
    assert "40 times less" in texts[0] and "not run" in said and "Missing" not in said
    assert "Eight such agents on one device, stepped one after another, need " in said
    assert "1.3 device hours" in said


def test_more_inner_updates_are_compared_with_the_fewest(both, monkeypatch):
    """The most minus the fewest, of each size by itself; two seeds say nothing."""
    values = {
        "full.data.changing.8": [0.75, 0.75, 0.75],
        "full.data.changing.1": [0.25, 0.25, 0.25],
        "full.data.still.8": [0.25, 0.25, 0.25],
        "full.data.still.1": [0.5, 0.5, 0.5],
        "small.data.changing.4": [0.2, 0.2],
        "small.data.changing.1": [0.1, 0.1, 0.1],
    }

    def per_seed(self, arm, name, **rest):
        return np.array(values.get(arm, []))

    monkeypatch.setattr(GradientEvidence, "per_seed", per_seed)
    said = gradient_report.on_agreement(dataclasses.replace(both))
    assert (
        "With 256 environments and rollouts as data, 8 inner updates instead of 1 change the "
        "agreement by 0.50 [0.50, 0.50] under change and -0.25 [-0.25, -0.25] where nothing "
        "changes."
    ) in said
    assert "With 32 environments" not in said


def test_newborn_agents_are_told_apart_from_older_ones(both, monkeypatch):
    """What is compared is cut in two by the env steps at which meta-iterations begin."""
    arm = "full.data.still.1"
    length = both.gradients.shared_length(arm)
    steps, values = both.gradients.metric(arm, "meta_agreement")
    first = steps - steps[0] < 0.2 * length
    assert 0 < first.sum() < len(first)
    ages = [
        both.gradients.per_seed(arm, "meta_agreement", window=w) for w in ((0, 0.2), (0.2, 1.0))
    ]
    np.testing.assert_allclose(ages[0], values[:, first].mean(1))
    np.testing.assert_allclose(ages[1], values[:, ~first & (steps - steps[0] < length)].mean(1))

    def per_seed(self, arm, name, *, window=(0.0, 1.0), **rest):
        young = 0.9 if window == (0.0, 0.2) else 0.25
        return np.array([young] * 3 if arm in ("full.data.changing.1", "full.data.still.8") else [])

    monkeypatch.setattr(GradientEvidence, "per_seed", per_seed)
    said = gradient_agreement.by_age(both.gradients)
    assert "in the first 20 % of what is compared" in said
    rows = [row.split(" | ") for row in said.splitlines()[-2:]]
    assert rows[0][1:] == ["no runs", "no runs", "0.90 [0.90, 0.90]", "0.25 [0.25, 0.25] |"]
    assert rows[1][1:] == ["0.90 [0.90, 0.90]", "0.25 [0.25, 0.25]", "no runs", "no runs |"]


def test_kinds_of_machine_are_named_where_they_differ(both):
    assert gradient_agreement.machines(both.gradients) == ""
    runs = [
        dataclasses.replace(run, manifest={**run.manifest, "device": "1 x gpu (X)"})
        if run.spec.arm.startswith("full") and not run.spec.arm.endswith("4")
        else run
        for run in both.gradients.runs.runs
    ]
    mixed = dataclasses.replace(both.gradients, runs=Results(runs))
    assert gradient_agreement.machines(mixed).endswith(
        "machine: with 256 environments, 1, 2 and 8 on GPU; 4 on CPU, and with 32 environments, "
        "1, 2 and 4 on CPU."
    )


def test_the_committed_measurements_keep_the_bounds_of_memory(tmp_path):
    """At the official size: one agent below 0.75 GiB and a thirtieth of the official way, eight
    below 2 GiB."""
    committed = Store(repo_root() / "data" / "results", tmp_path / "scratch")
    costs = cost_report.load(store=committed, compute="never")
    assert cost_report.gib(costs, cost_report.arm_name("updates", *cost_report.OFFICIAL)) < 0.75
    assert cost_report.memory_ratio(costs, "official", "updates") > 30
    assert cost_report.gib(costs, cost_report.arm_name("updates", *meta_cost.EIGHT)) < 2


def test_the_pages_when_nothing_is_there(place, empty):
    both = gradient_report.load(store=empty, compute="never")
    assert {v.status for v in gradient_report.claims(both).values()} == {"undecided"}
    figures, texts = gradient_cells(both)
    assert all(not figure.axes for figure in figures)
    assert all(texts), "an empty text shows as an object's name"
    assert texts[0].startswith("**No arm of this study is stored") and "Missing runs" in texts[-1]
    costs = cost_report.load(store=empty, compute="never")
    figures, texts = cost_cells(costs)
    assert "nothing can be said yet" in texts[0] and all(texts)
    assert all(not f.axes for f in figures)
    assert "loptrl run meta_cost --budget laptop" in "\n".join(texts)


def test_own_meta_trainings_stand_beside_the_published_speed(place, empty):
    """Of the official size only: those with other batches are as fast for other reasons."""
    rows = pd.DataFrame({"env_steps": [1], "meta_loss": [0.0]})
    facts = {**stored_runs.FACTS, "env_steps": 1, "diverged_at": None}
    for name, device, rate in (
        ("stationary", "1 x cpu (Some CPU, 1 cores)", 8_000.0),
        ("drift", "1 x cpu (Some CPU, 1 cores)", 13_000.0),
        ("drift_l2", "2 x cpu (Some CPU, 2 cores)", 20_000.0),
        ("grid_1e-3_128", "1 x gpu (Some GPU)", 50_000.0),
        ("grid_1e-4_32", "1 x gpu (Other GPU)", 70_000.0),
        ("grid_1e-5_32", "1 x gpu (Other GPU)", 60_000.0),
        ("grid_1e-5_128", "1 x gpu (Third GPU)", 60_000.0),
        ("grid_1e-5_512", "1 x gpu (Third GPU)", 60_000.0),
        ("reduced", "1 x gpu (Some GPU)", 99_000.0),
        ("small_data", "1 x cpu (Some CPU, 1 cores)", 3_000.0),
    ):
        spec = meta_runs.meta_spec(name, RECIPES["optim4rl"][name].config)
        own = {"device": device, "env_steps_per_s": rate}
        if name == "grid_1e-5_512":  # A day after the other one on its GPU.
            own["created"] = "2026-11-23T12:00:00+00:00"
        empty.write(spec, rows, {**facts, **own})
    said = cost_report.on_gpu_time(empty)
    assert "1 ran on 1 x gpu (Some GPU): 50,000 env steps per second, compiling" in said
    assert (
        "At the same rate that is 0.56 device hours for 100M env steps, 28 for all 50 settings"
        in said
    )
    assert "2 ran on 1 x gpu (Other GPU): 60,000 to 70,000 env steps per second each" in said
    assert "At the lowest of these rates that is 0.46 device hours" in said
    assert "made 130,000 for them together: 0.21 device hours" in said
    assert said.count("together") == 1
    assert (
        "Of the others 2 ran on 1 core of a CPU: 8,000 to 13,000 env steps per second, at the "
        "lowest of these rates 3.5 hours for 100M; 1 ran on 2 cores of a CPU: 20,000 env steps "
        "per second, which is 1.4 hours for 100M." in said
    )
    assert "99,000" not in said


def test_the_smaller_sizes_stand_beside_the_full_ones(place, empty):
    assert "No run is stored of Optim4RL (direct)" in cost_report.on_quality(empty)
    for name in ("drift", "reduced"):
        stored_runs.keep_weights(place / "data", name, {"w": np.ones(3, np.float32)})
    for spec in optim4rl_l2.STUDY.specs("laptop", ["drift", "reduced"]):
        stored_runs.keep(empty, spec, 3000.0 if spec.arm == "drift" else 2000.0)
    for spec in adam_collapse.STUDY.specs("laptop", ["adam"]):
        stored_runs.keep(empty, spec, 4000.0)
    said = cost_report.on_quality(empty)
    assert "The full size minus the reduced (5 seeds, seed against seed): 1,0" in said
    assert "better: the interval excludes 0" in said and "**supported**" in said


def test_a_panel_without_a_measurement_leaves_the_other_drawn(place, empty):
    agents = [meta_cost.arm_name("updates", 128, 4, n) for n in (2, 4, 8)]
    for spec in meta_cost.STUDY.specs("laptop", agents):
        keep(empty, spec, costs_of(spec))
    evidence = cost_report.load(store=empty, compute="never")
    figure = cost_report.time_figure(evidence)
    *bare, full = figure.axes
    assert full.lines and full.get_xlabel() == "agents" and len(bare) == 2
    assert not any(axes.lines for axes in bare)
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    assert figure._repr_png_()


def test_meta_gradients_that_are_not_finite_are_left_out(place, empty):
    study, arm = gradient_statistics.STUDY, "small.physics.changing.4"
    for spec in study.specs("laptop", [arm]):
        frame = rows(spec)
        frame.loc[[1, 3], "meta_agreement"] = [np.nan, np.inf]
        if spec.seed == 2:
            frame[["meta_agreement", "meta_sign_agreement"]] = np.nan
        frame["meta_grad_norm_single"] = np.nan
        keep(empty, spec, frame)
    both = gradient_report.load(store=empty, compute="never")
    found = both.gradients.per_seed(arm, "meta_agreement")
    assert found.shape == (2,) and np.isfinite(found).all()
    assert gradient_report.claims(both)["H1"].status == "undecided"
    assert gradient_cells(both)[0][0].axes


def test_another_verdict_over_the_whole_length_is_on_the_first_screen(both, monkeypatch):
    part = gradient_report.claims(both)["C15 (rollouts as data)"]
    for status in ("supported", "contradicted", "undecided"):
        whole = dataclasses.replace(part, status=status)
        monkeypatch.setattr(gradient_report, "_over_whole_length", lambda found, v=whole: v)
        said = f"over the whole length of its own runs it would be {status}."
        assert (said in gradient_report.headline(both)) == (status != part.status)
