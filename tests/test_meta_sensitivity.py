"""Study 6: the grid of meta-trainings, its heat map, its verdict, and its page."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text

import stored_runs
from loptrl import book, cli, plots, stats, verdicts, weights
from loptrl.errors import LoptrlError
from loptrl.paths import repo_root
from loptrl.runs import Store
from loptrl.stats import Estimate
from loptrl.studies import (
    adam_collapse,
    changing_ant_figures,
    meta_recipes,
    meta_runs,
    meta_sensitivity,
    optim4rl_steps,
    transfer,
)
from loptrl.studies import changing_ant_report as shared
from loptrl.studies import meta_sensitivity_figures as figures
from loptrl.studies import meta_sensitivity_report as report
from loptrl.studies.meta_sensitivity import AUTHORS, GRID, LONG, STUDY

NOTEBOOK = repo_root() / "notebooks" / "06_meta_sensitivity.md"
BEST, WORST = "grid_1e-3_512", "grid_1e-5_32"
LEVELS = {
    **dict.fromkeys(GRID, 3000.0),
    BEST: 4000.0,
    WORST: 500.0,
    "grid_1e-3_32": stored_runs.collapsing,
    LONG: 250.0,
}
WORDS = ("headline", "on_grid", "on_authors", "overview")


def fill(store, study, arms, seeds=None, budget="laptop", **settings):
    for spec in study.specs(budget, arms, seeds, **settings):
        stored_runs.keep(store, spec, LEVELS.get(spec.arm, 3500.0))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data folder with weights for every grid point and an empty cache."""
    folder = tmp_path_factory.mktemp("place")
    patch = pytest.MonkeyPatch()
    patch.setenv("LOPTRL_DATA", str(folder / "data"))
    patch.setenv("LOPTRL_CACHE", str(folder / "cache"))
    shutil.copytree(repo_root() / "data" / "reference", folder / "data" / "reference")
    for number, name in enumerate(meta_recipes.GRID):
        stored_runs.keep_weights(folder / "data", name, {"w": np.full(3, number, np.float32)})
    stored_runs.keep_weights(folder / "data", "untrained", {"w": np.full(3, 9, np.float32)})
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def complete(place):
    """The evidence with everything that the laptop budget asks for."""
    store = Store(place / "data" / "results", place / "scratch")
    fill(store, STUDY, list(STUDY.arms))
    fill(store, transfer.STUDY, ["transferred_still", *AUTHORS])
    fill(store, adam_collapse.STUDY, ["stationary"])
    return report.load(store=store, compute="never")


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """No weights at all."""
    shutil.copytree(repo_root() / "data" / "reference", tmp_path / "data" / "reference")
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))


def drawn(evidence):
    return [
        figures.grid_figure(evidence),
        figures.steps_figure(evidence),
        figures.curves_figure(evidence),
        changing_ant_figures.finals_figure(evidence, report.ARMS),
    ]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


# --- which meta-trainings and which runs --------------------------------------------------------


def test_the_recipes_of_the_grid():
    recipes = meta_recipes.RECIPES["optim4rl"]
    still = recipes["stationary"].config.to_dict()
    assert len(meta_recipes.GRID) == len(set(meta_recipes.GRID.values())) == 9
    for name, (rate, interval) in meta_recipes.GRID.items():
        numbers = {"meta_learning_rate": float(rate), "reset_interval": interval}
        assert recipes[name].config.to_dict() == still | numbers
        if name != "stationary":
            assert name == f"grid_{rate}_{interval}"
            assert f"meta learning rate {rate}, reset interval {interval}" in (
                recipes[name].trained_on
            )


def test_the_command_takes_a_recipe_of_the_grid(nobody, monkeypatch, capsys):
    asked = {}

    def train(name, config, words, **options):
        asked.update(name=name, config=config, words=words, **options)
        raise LoptrlError("far enough")

    monkeypatch.setattr(meta_runs, "train", train)
    with pytest.raises(SystemExit):
        cli.main(["meta", "optim4rl", "--recipe", "grid_1e-5_32"])
    assert "far enough" in capsys.readouterr().err
    assert asked["name"] == "grid_1e-5_32" and asked["config"].reset_interval == 32
    assert asked["command"] == "loptrl meta optim4rl --recipe grid_1e-5_32"
    assert asked["licence"] == "Apache-2.0"
    line = "meta optim4rl --recipe grid_1e-5_32 --name mine --meta-lr 0.001 --through-dynamics True"
    with pytest.raises(SystemExit):
        cli.main(line.split())
    assert asked["command"] == f"loptrl {line}" and asked["licence"] is None
    assert asked["config"].through_dynamics
    assert asked["words"].endswith("but with meta_learning_rate=0.001, through_dynamics=true")


def test_only_the_rule_differs_from_the_runs_of_adam(place):
    adam = adam_collapse.STUDY.config("stationary").to_dict()
    del adam["optimizer"]
    for arm in STUDY.arms:
        config = STUDY.config(arm).to_dict()
        rule = config.pop("optimizer")
        assert rule["weights"] == f"optim4rl/{'untrained' if arm == LONG else arm}"
        assert rule.get("learning_rate") == (2.53e-3 if arm == LONG else None)
        assert config == adam
    specs = STUDY.specs("laptop")
    assert len(specs) == 3 * 9 and len(STUDY.specs("paper")) == 5 * 9
    assert {spec.config["env_steps"] for spec in specs} == {20_000_000}


def test_the_centre_and_the_authors_points_are_study_3_s_runs(place):
    (renamed, names), (adam, control) = meta_sensitivity.BORROWED
    assert names == ("transferred_still", *AUTHORS) and control == ("stationary",)
    assert adam is adam_collapse.STUDY
    keys = [spec.key for spec in renamed.specs("laptop", names)]
    assert keys == [spec.key for spec in transfer.STUDY.specs("laptop", names)]
    assert renamed.arms["transferred_still"].label == "Optim4RL (1e-4, reset 128)"
    rule = transfer.STUDY.arms["transferred_still"].settings["optimizer"]
    assert rule["weights"] == "optim4rl/stationary"
    for arm, (rate, interval) in AUTHORS.items():
        published = weights.REGISTRY[transfer.STUDY.arms[arm].settings["optimizer"]["weights"]]
        said = f"reset interval {interval}, meta-learning rate {rate}"
        assert published.trained_on.endswith(said)


def test_commands_name_each_study_once(complete):
    assert complete.command(*GRID, LONG) == (
        "loptrl run meta_sensitivity --budget laptop && "
        "loptrl run transfer --budget laptop --arm transferred_still"
    )
    assert not complete.incomplete


# --- what is there ------------------------------------------------------------------------------


def test_nothing_stored_and_no_weights_is_said_and_not_drawn(nobody, store):
    found = report.load(store=store, compute="never")
    assert report.headline(found).startswith(
        "**Nothing can be said yet: of the 9 points of the grid none has a run.**"
    )
    assert report.claims(found)["C13"].status == "undecided"
    for name in WORDS:
        assert "nan" not in getattr(report, name)(found)
    table = report.overview(found)
    assert "| Optim4RL (1e-5, reset 32) | - | missing |" in table
    assert "No run of these: Optim4RL (1e-5, reset 32);" in table
    for figure in drawn(found):
        assert figure.axes == [] and "Not drawn" in figure.texts[0].get_text()


def test_the_machines_of_the_meta_trainings_are_counted(store):
    assert "None of these" in report.on_machines(store)
    rows = pd.DataFrame({"env_steps": [1], "meta_loss": [0.0]})
    facts = {**stored_runs.FACTS, "env_steps": 1, "diverged_at": None}
    for name, device in (
        ("stationary", "1 x cpu (Some CPU, 1 cores)"),
        ("grid_1e-5_32", "1 x gpu (Some GPU)"),
        ("grid_1e-5_128", "1 x gpu (Other GPU)"),
    ):
        spec = meta_runs.meta_spec(name, meta_recipes.recipe("optim4rl", name).config)
        store.write(spec, rows, {**facts, "device": device})
    assert "come from: CPU 1 (1e-4, reset 128); GPU 2. What" in report.on_machines(store)


def test_cells_without_runs_are_hatched_and_leave_the_claim_undecided(place, store):
    fill(store, STUDY, [BEST])
    found = report.load(store=store, compute="never")
    assert "of the 9 points of the grid only 1e-3 and 512 has runs" in report.headline(found)
    fill(store, STUDY, [WORST], 1)
    found = report.load(store=store, compute="never")
    assert "the worst and the best of 2 of the 9 grid points, " in report.headline(found)
    verdict = report.claims(found)["C13"]
    assert verdict.status == "undecided" and "1 of the 9 grid points has" in verdict.reason
    grid, steps, curves, _ = drawn(found)
    (scatter,) = steps.axes
    (points,) = scatter.containers
    ends = [shared.final(found, arm).value for arm in found.present(BEST, WORST)]
    assert sorted(points.lines[0].get_ydata()) == pytest.approx(sorted(ends))
    at = [stats.iqm(optim4rl_steps.lengths(found, arm)) for arm in (BEST, WORST)]
    assert sorted(points.lines[0].get_xdata()) == pytest.approx(sorted(at))
    hatched = [patch for patch in grid.axes[0].patches if patch.get_hatch()]
    assert len(hatched) == 7 and texts(grid.axes[0]).count("no runs") == 7
    assert texts(grid.axes[0]).count("authors': no runs") == 3
    assert texts(grid.axes[0]).count("one seed") == 1
    assert len(curves.axes) == 2


# --- numbers, verdict, words --------------------------------------------------------------------


def test_the_words_hold_verdict_and_numbers(complete):
    head = report.headline(complete)
    assert head.startswith(
        "**On the stationary Ant Optim4RL ends at 101 when it was meta-trained with a meta "
        "learning rate of 1e-3 and a reset interval of 32 (3 seeds), and at 4,000 with a meta "
        "learning rate of 1e-3 and a reset interval of 512 (3 seeds): the worst and the best of "
        "the 9 grid points, 3,899 or 97 % of the best apart.** Without the worst the others end "
    )
    second = sorted(shared.final(complete, arm).value for arm in GRID)[1]
    assert f" between {second:,.0f} and the best, {100 * (1 - second / 4000):.0f} % of it" in head
    assert "apart. Default Adam ends at 3,500 [" in head
    assert "*Supported*: the result swings over the grid (C13)" in head
    verdict = report.claims(complete)["C13"]
    words = report.on_grid(complete)
    assert f"**supported**. {verdict.reason}" in words and "Adam, nothing changes 3,500" in words
    assert "at 1e-3 and 512" in verdict.reason and "at 1e-3 and 32" in verdict.reason
    words = report.on_authors(complete)
    assert words.index("authors' (1e-5, reset 512) 3,500") < words.index(
        "Optim4RL (1e-5, reset 32)"
    )
    assert "of 100M env steps with one seed each, they ended at 5,591 (1e-5, reset 512), " in words
    table = report.overview(complete)
    assert "| Optim4RL (1e-3, reset 32) | 3 | 101 | 3 of 3 |" in table
    assert "Missing runs" not in table and "meta-learning rate 1e-3" in table


STEPS = np.arange(2, 101, 2)


def cells(*levels, spread=1.0, seeds=3):
    """Runs of a grid: a constant return each, seeds `spread` apart."""
    return {
        f"point {i}": np.stack([np.full(STEPS.size, level + spread * s) for s in range(seeds)])
        for i, level in enumerate(levels)
    }


@pytest.mark.parametrize(
    ("points", "status", "words"),
    [
        (cells(1000, 900, 400), "supported", "above half of the best, and beyond chance"),
        (cells(1000, 900, 600), "undecided", "not above half of the best"),
        # Above half of the best, and no wonder with seeds that lie so far apart.
        (cells(1000, 900, 400, spread=900.0), "contradicted", "not beyond what chance makes"),
        (cells(1000, 1000, 1000), "contradicted", "not beyond what chance makes"),
        (cells(1000, 1000, spread=0.0), "contradicted", "range 0.00"),
        (cells(-100, -900), "undecided", "no point ends above 0"),
        (cells(1000, 10, seeds=2), "undecided", "2 seeds of the point 0 arm are too few"),
        ({**cells(1000, 10), "gone": np.empty((0, 50))}, "undecided", "0 seeds of the gone arm"),
    ],
)
def test_c13(points, status, words):
    verdict = verdicts.c13(STEPS, points, rng=np.random.default_rng(0))
    assert (verdict.claim, verdict.status) == ("C13", status)
    assert words in verdict.reason


def test_chance_is_the_range_of_points_that_are_moved_together():
    """Nine points far apart, of 200 normal seeds each: chance is the range of nine equal ones."""
    rng = np.random.default_rng(1)
    points = {str(i): np.tile(1000.0 * i + rng.normal(size=(200, 1)), STEPS.size) for i in range(9)}
    found = verdicts.c13(STEPS, points, rng=rng).estimates
    assert found["range of the final returns"].value == pytest.approx(8000, abs=1)
    simulated = np.ptp(rng.normal(size=(20_000, 9)), axis=1) / np.sqrt(200)
    # The IQM of normal seeds has 1.09 times the deviation of their mean.
    expected = 1.09 * np.percentile(simulated, 97.5)
    assert found["range of equal points"].high == pytest.approx(expected, rel=0.1)


def test_untrained_weights_with_long_steps_stand_beside_the_cell_with_the_longest(place, store):
    longest, norms = "grid_1e-3_32", {"grid_1e-3_32": 0.25, BEST: 0.04, LONG: 0.5}

    def keep(arm, returns=4000.0):
        for spec in STUDY.specs("laptop", [arm]):
            level = np.full(98, norms[arm])
            metrics = {"update_norm": lambda rows, level=level: level[:rows]}
            stored_runs.keep(store, spec, returns, metrics=metrics)

    keep(longest, 1000.0), keep(BEST)
    words = report.on_steps(report.load(store=store, compute="never"))
    assert "No run is stored of Optim4RL (untrained, 8.4 times the step)" in words
    for spec in STUDY.specs("laptop", [LONG], 1):
        stored_runs.keep(store, spec, 10.0, diverged_after=5)
    words = report.on_steps(report.load(store=store, compute="never"))
    assert "Final return: Optim4RL (untrained, 8.4 times the step) -10, 1 seed." in words
    keep(LONG)
    found = report.load(store=store, compute="never")
    words = report.on_steps(found)
    assert (
        "steps are 2.00 times as long as those of 1e-3 and 32, the longest of the grid. Final "
        in words
    )
    assert "minus that of the untrained one (3 seeds, seed against seed): -3,00" in words
    assert "with nothing learned" not in words, "it ends as high as another cell"
    assert report.claims(found)["C13"].status == "undecided"
    (axes,) = figures.steps_figure(found).axes
    (square,) = [c for c in axes.containers if c.get_label() == STUDY.arms[LONG].label]
    length = stats.iqm(optim4rl_steps.moved(found, LONG)) / optim4rl_steps.ALPHA
    assert square.lines[0].get_xdata() == pytest.approx([length])
    keep(LONG, 500.0)
    words = report.on_steps(report.load(store=store, compute="never"))
    assert "Steps that long end below every other cell with nothing learned. The" in words
    words = report.on_steps(report.load(store=store, compute="never", seeds=2))
    assert "(untrained, 8.4 times the step) 50" in words and "nothing learned" not in words


# --- figures ------------------------------------------------------------------------------------


def test_the_cells_hold_their_numbers(complete):
    grid, _, curves, finals = drawn(complete)
    final, rate = grid.axes
    assert final.get_title(loc="left").endswith("(default Adam: 3,500)")
    assert [tick.get_text() for tick in final.get_xticklabels()] == ["1e-5", "1e-4", "1e-3"]
    assert [tick.get_text() for tick in final.get_yticklabels()] == ["32", "128", "512"]
    placed = {text.get_text(): text.get_position() for text in final.texts}
    assert placed["4,000"][0] == 2 and round(placed["4,000"][1]) == 2
    assert placed["500"][0] == 0 and round(placed["500"][1]) == 0
    assert texts(rate).count("0.00") == 8 and texts(rate).count("[0.44, 1.00]") == 1
    for axes in (final, rate):
        marks = [line.get_ydata()[0] for line in axes.get_lines()]
        # 512 and 32 beneath the numbers of their cells, 64 on the border of 32 and 128.
        assert marks == pytest.approx([1.69, -0.31, 0.5])
    assert len(curves.axes) == 9 and curves.axes[0].get_title(loc="left") == "1e-5, reset 512"
    for figure in (grid, curves, finals):
        small = " ".join(figure._supxlabel.get_text().split())
        assert "loptrl run meta_sensitivity" in small and "20M env steps" in small


def test_text_can_be_read_on_every_shade_and_shades_darken():
    def luminance(color):
        rgb = np.array(to_rgb(color))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ (0.2126, 0.7152, 0.0722)

    numbers = [str(n) for n in range(1, 31)]
    found = {(n, "1"): Estimate(float(n), 0.0, 1.0, 3) for n in numbers}
    panel = plots.HeatPanel("all shades", found, {}, "#9e0707")
    (axes,) = plots.heat_map([panel], numbers, ["1"], xlabel="x", ylabel="y").axes
    shades = [luminance(p.get_facecolor()) for p in axes.patches if isinstance(p, Rectangle)]
    assert len(shades) == 30 and np.all(np.diff(shades) < 0)
    for shade, text in zip(shades, axes.texts[::2], strict=True):
        dark, light = sorted((shade, luminance(text.get_color())))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_an_empty_map_is_refused():
    with pytest.raises(LoptrlError, match="at least one entry in panels"):
        plots.heat_map([], ["1"], ["1"], xlabel="x", ylabel="y")


# --- the page -----------------------------------------------------------------------------------


def test_the_prose_says_what_the_study_does():
    from loptrl.meta.pipeline import Ages

    text = " ".join(NOTEBOOK.read_text(encoding="utf-8").split())
    configs = {
        interval: meta_recipes.recipe("optim4rl", name).config
        for name, (_, interval) in meta_recipes.GRID.items()
    }
    long = configs[512]
    assert f"{long.env_steps / 1e7:.0f}e7 env steps in {long.num_slices} meta-iterations" in text
    assert long.inner_updates == 4 and "meta-iterations of four PPO iterations each" in text
    restarts = [
        Ages.at(i, long.agents, long.reset_interval).restart for i in range(1, long.num_slices)
    ]
    assert sorted(np.sum(restarts, axis=0)) == [0] * 6 + [1, 1] and long.agents == 8
    assert "of the eight agents two start anew, once, and six never do" in text
    lives = []
    for config in configs.values():
        ppo = config.ppo("ant")
        iterations = min(config.life, config.num_slices) * config.inner_updates
        lives.append(f"{iterations * ppo.epochs * ppo.minibatches:,}")
    said = "{} updates in a life with a reset interval of 32, {} with 128, and at most {} with 512"
    assert said.format(*lives) in text
    agent = adam_collapse.STUDY.config("stationary")
    updates = agent.env_steps / agent.batch_size * agent.epochs * agent.minibatches
    assert updates == pytest.approx(125_000) and "makes about 125,000" in text


def test_the_page_answers_first_and_says_how_to_run_it_again():
    text = NOTEBOOK.read_text(encoding="utf-8")
    first = text.split("\n## ", 1)[0]
    assert "report.headline(evidence)" in first and "grid_figure" in first
    parameters = book.parameters(NOTEBOOK)
    (command,) = re.findall(r"^loptrl execute notebooks/06_meta_sensitivity.md (.*)$", text, re.M)
    for pair in re.findall(r"-p (\S+)", command):
        name, _, value = pair.partition("=")
        assert parameters[name].parse(value) is not None
    listed = text[text.index("\nParameters: ") :].splitlines()[1]
    assert set(re.findall(r"`(\w+)`", listed)) == set(parameters)


@pytest.mark.slow
def test_the_notebook_makes_a_page(tmp_path, monkeypatch, library_path):
    """At smoke size from stored runs, and with none at all."""
    import nbformat

    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    shutil.copytree(repo_root() / "data" / "reference", tmp_path / "data" / "reference")
    given = {"budget": "smoke", "env_steps": "400", "seeds": "1", "compute": "never"}

    def page(name):
        path = book.execute(NOTEBOOK, given, to=name, output_dir=tmp_path / "pages")
        node = nbformat.read(path, as_version=4)
        outputs = [o for c in node.cells for o in c.get("outputs", [])]
        assert sum("image/png" in o.get("data", {}) for o in outputs) == 4
        text = path.read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        return text

    assert "none has a run.**" in page("empty")
    for number, name in enumerate((BEST, WORST)):
        stored_runs.keep_weights(tmp_path / "data", name, {"w": np.full(3, number, np.float32)})
    store = Store(tmp_path / "data" / "results", tmp_path / "scratch")
    fill(store, STUDY, [BEST, WORST], 1, "smoke", env_steps=400)
    fill(store, adam_collapse.STUDY, ["stationary"], 1, "smoke", env_steps=400)
    text = page("some")
    assert "**On the stationary Ant Optim4RL ends at " in text
    assert "Too few runs" in text and "No run of these: Optim4RL (" in text
