"""The pages of studies 4 and 5: right with whatever runs are stored, weights here or not."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure

import stored_runs
from loptrl import book, drive, provenance, stats, weights
from loptrl.errors import LoptrlError, WeightsError
from loptrl.paths import repo_root
from loptrl.runs import Store
from loptrl.studies import (
    brax_ant,
    comparison_figures,
    comparison_published,
    comparison_report,
    open_multitask,
)
from loptrl.studies.comparison_evidence import load

GAMES = open_multitask.COMPARISON.tasks
FIGURES = [
    comparison_figures.curves_figure,
    comparison_figures.normalised_figure,
    comparison_figures.improvement_figure,
    comparison_figures.profiles_figure,
]
LEVELS = {"adam": 100.0, "rmsprop": 80.0, "open": 150.0, "open_multi": 130.0, "optim4rl": 40.0}


@pytest.fixture(autouse=True)
def weights_of_one_kind(monkeypatch, tmp_path):
    """Of all weights only our Optim4RL's are here."""
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    data, ours = repo_root() / "data", "weights/optim4rl/stationary"
    (tmp_path / "data" / ours).parent.mkdir(parents=True)
    for suffix in (".npz", ".json"):
        shutil.copy(data / f"{ours}{suffix}", tmp_path / "data" / f"{ours}{suffix}")
    shutil.copytree(data / "reference", tmp_path / "data" / "reference")


def of_games(store, **options):
    options = {"compute": "never", **options}
    return load(open_multitask.COMPARISON, store=store, **options)


def of_bodies(store):
    return load(brax_ant.COMPARISON, store=store, compute="never")


def fill(store, study, tasks, levels, seeds=3, **options):
    for task in tasks:
        for optimizer, level in levels.items():
            for spec in study.STUDY.specs(
                "laptop", [study.COMPARISON.arm_name(task, optimizer)], seeds
            ):
                stored_runs.keep(store, spec, level + spec.seed, **options)


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    root = tmp_path_factory.mktemp("games")
    store = Store(root / "results", root / "scratch")
    fill(store, open_multitask, GAMES, LEVELS)
    return store


def test_every_arm_of_both_studies_is_a_configuration():
    for study in (open_multitask.STUDY, brax_ant.STUDY):
        for arm in study.arms:
            if study.weights_of(arm) == "unknown":
                continue
            for budget in study.budgets:
                config = study.config(arm, budget)
                rule = config.optimizer
                assert config.value_clip == 0.2 and not config.bootstrap_truncation
                assert config.standardize_minibatches
                assert (rule.weights is None) == (rule.name in ("adam", "rmsprop"))
                assert rule.weights is None or rule.sha256 == weights.digest(rule.weights)


def test_published_settings():
    """`published.md`, section 1: sizes, and tuned Adam and RMSProp by world."""
    config = open_multitask.STUDY.config("breakout.adam")
    sizes = config.num_envs, config.rollout_length, config.epochs, config.minibatches
    assert sizes == (64, 128, 4, 8) and config.env_steps == 10_000_000
    assert (config.entropy_coef, config.activation, config.hidden) == (0.01, "relu", (64, 64))
    rule = config.optimizer
    assert (rule.learning_rate, rule.b1, rule.b2, rule.anneal) == (1e-2, 0.9, 0.99, True)
    config = brax_ant.STUDY.config("humanoid.rmsprop")
    assert (config.backend, config.hidden, config.entropy_coef) == ("positional", (256, 256), 0)
    rule = config.optimizer
    assert (rule.learning_rate, rule.b1, rule.b2, rule.anneal) == (8e-4, 0.0, 0.99, False)
    assert rule.eps == 1e-8, "optax's, under the root: the transcription sets none"


def test_arms_whose_weights_nobody_knows_are_left_out_or_refused():
    arms = {spec.arm for spec in open_multitask.STUDY.specs()}
    assert len(arms) == 24 and not any("velo" in arm or "open_own" in arm for arm in arms)
    with pytest.raises(WeightsError, match="velo/released"):
        open_multitask.STUDY.specs(arms=["breakout.velo"])


def test_arms_whose_weights_are_not_here_are_not_trained(store, monkeypatch):
    calls = []

    def recorded(specs, make_program, **settings):
        calls.append({spec.arm for spec in specs})
        return drive.Results([])

    monkeypatch.setattr(drive, "load_or_run", recorded)
    found = of_games(store, only="breakout", compute="missing")
    open_multitask.STUDY.load_or_run(store=store)
    trained = {
        open_multitask.COMPARISON.arm_name(game, one)
        for game in GAMES
        for one in ("adam", "rmsprop", "optim4rl_own")
    }
    assert calls == [{arm for arm in trained if arm.startswith("breakout")}, trained]
    absent = ["velo", "open_own", "open_own_two"]
    assert found.without_weights() == absent


def test_nothing_stored_is_said_and_not_drawn(store):
    found = of_games(store)
    assert "No run is stored" in comparison_report.headline(found)
    words = comparison_report.missing(found)
    assert "160 of 160 planned runs are missing, among them all of Adam (tuned), RMSProp" in words
    assert (
        "all of Adam (tuned), RMSProp (tuned), OPEN (this game's)" in words
        and "VeLO: where" in words
    )
    assert "No run of OPEN (ours, Breakout) and OPEN (ours, two games): not meta-trained" in words
    for figure in FIGURES:
        assert [text.get_text()[:10] for text in figure(found).texts] == ["Not drawn:"]
    verdicts = comparison_report.claims(found)
    assert {v.status for v in verdicts.values()} == {"undecided"}


def test_scores_are_the_last_twentieth_of_training(games):
    found = of_games(games)
    steps, values = found.training_returns("freeway.open")
    assert steps[0] > 0 and values.shape == (3, steps.size) and np.isfinite(values).all()
    late = steps > steps[-1] - 0.05 * steps[-1]
    np.testing.assert_allclose(
        found.scores["open"]["freeway"], values[:, late].mean(axis=1), rtol=1e-2
    )
    assert found.scores["open"]["freeway"] == pytest.approx([150, 151, 152], abs=2)


def test_scores_are_normalised_by_adam_game_by_game(store):
    fill(store, open_multitask, ["asterix"], {"adam": 10.0, "open_multi": 20.0})
    fill(store, open_multitask, list(GAMES)[1:], {"adam": 1000.0, "open_multi": 500.0})
    scores = of_games(store).normalised()["open_multi"]
    assert list(scores) == list(GAMES) and {own.shape for own in scores.values()} == {(3,)}
    means = [own.mean() for own in scores.values()]
    np.testing.assert_allclose(means, [21 / 11, 0.5, 0.5, 0.5], rtol=0.1)


def test_seeds_that_one_game_alone_has_count_there(store):
    """Of five seeds on one game and three on the others none is left out."""
    fill(store, open_multitask, GAMES, {"adam": 10.0, "open_multi": 9.5})
    fill(store, open_multitask, ["breakout"], {"open_multi": 9.5, "adam": 10.0}, seeds=5)
    found = of_games(store)
    scores, adam = found.scores["open_multi"], found.scores["adam"]
    assert {game: own.size for game, own in scores.items()}["breakout"] == 5
    wins = [np.mean(own[:, None] > adam[game][None]) for game, own in scores.items()]
    assert wins[2] > max(wins[:2]), "the late seeds are the better ones"
    said = comparison_report.decided(found)
    assert f"in a share of {np.mean(wins):.2f} [" in said
    number = stats.normalised_ci(scores, adam, rng=np.random.default_rng(0))
    exact = stats.stratified_bootstrap_ci(
        found.normalised()["open_multi"], rng=np.random.default_rng(0)
    )
    answer = comparison_report.headline(found)
    assert "pooled (3 to 5 seeds each)" in answer
    assert f"OPEN (multi-task) {number}" in answer and str(exact) != str(number)
    assert f"which leaves {exact} for it; one of its runs ends above one of Adam's" in answer


def test_the_verdicts_with_runs(games):
    found = comparison_report.claims(of_games(games))
    assert [(name, v.status) for name, v in found.items()] == [
        ("C9", "supported"),
        ("C10", "supported"),
        ("C12", "undecided"),
    ]
    text = comparison_report.decided(of_games(games))
    assert "(Adam (tuned), RMSProp (tuned), Optim4RL (from Ant))" in text
    assert "on 4 of 4 games (Asterix, Freeway, Breakout, SpaceInvaders)" in text
    assert "released weights are not available" in text
    # 130 against 100, with seeds 1 apart.
    assert "ends above one of Adam's in a share of 1.00 [1.00, 1.00] of all pairs" in text
    assert "| share of pairs | Asterix | Freeway | Breakout | SpaceInvaders |" in text
    assert f"| OPEN (multi-task) > RMSProp (tuned){4 * ' | 1.00 [1.00, 1.00]'} |" in text


def test_too_few_seeds_are_said_in_words(store):
    fill(store, open_multitask, GAMES, {"adam": 10.0})
    fill(store, open_multitask, GAMES, {"open_multi": 20.0}, seeds=2)
    text = comparison_report.decided(of_games(store))
    assert text.count("Too few runs: 2 of 3 seeds of OPEN (multi-task) on Asterix.") == 2
    assert not re.search(r"[a-z]_[a-z]", text), "no key is left"


def test_an_optimizer_with_too_few_seeds_does_not_spoil_the_verdicts(store):
    fill(store, open_multitask, GAMES, {"adam": 10.0, "open_multi": 20.0})
    before = comparison_report.claims(of_games(store))
    fill(store, open_multitask, GAMES, {"optim4rl": 5.0}, seeds=2)
    after = comparison_report.claims(of_games(store))
    assert [v.status for v in after.values()] == [v.status for v in before.values()]
    assert before["C9"].status == "supported" and "Optim4RL" not in after["C9"].reason


def test_too_few_seeds_of_velo_leave_c12_alone_undecided(store, monkeypatch):
    fill(store, open_multitask, GAMES, {"adam": 10.0, "open_multi": 20.0, "optim4rl": 5.0})
    before = comparison_report.claims(of_games(store))
    found = of_games(store)
    few = {game: np.array([5.0]) for game in GAMES}
    monkeypatch.setitem(found.scores, "velo", few)
    after = comparison_report.claims(found)
    assert [v.status for v in after.values()] == [v.status for v in before.values()]
    assert "1 of 3 seeds of VeLO" in after["C12"].reason
    monkeypatch.setitem(found.scores, "velo", {game: np.array([4.0, 5, 6]) for game in GAMES})
    assert comparison_report.claims(found)["C12"].status == "supported"


def test_kinds_of_machine_are_counted_and_compared(store):
    """Equal ends of Adam from two kinds, and of OPEN far apart; Optim4RL is from one."""
    fill(store, open_multitask, ["freeway", "asterix"], {"adam": 50.0, "optim4rl": 5.0}, seeds=6)
    fill(store, open_multitask, ["freeway"], {"open_multi": 20.0}, seeds=6)
    assert "from one kind" in comparison_report.on_devices(of_games(store))
    for name, level, precision in (("adam", 50.0, ""), ("open_multi", 80.0, provenance.REDUCED)):
        arm = open_multitask.COMPARISON.arm_name("freeway", name)
        for spec in open_multitask.STUDY.specs("laptop", [arm], 6)[3:]:
            device = f"1 x gpu (Some GPU{precision})"
            stored_runs.keep(store, spec, level + spec.seed % 3, device=device)
    said = comparison_report.on_devices(of_games(store))
    differences, *table = re.split(r"\n+", said)
    assert re.search(r"Adam \(tuned\) on Freeway -?0\.\d+ \[-", differences)
    assert "; OPEN (multi-task) on Freeway 59 [58, 61] (3 and 3 seeds)." in differences
    assert "Optim4RL" not in differences
    assert table[0] == "| runs of | CPU | GPU | GPU, reduced precision |"
    assert table[2:] == [
        "| Adam (tuned) | 9 | 3 | 0 |",
        "| OPEN (multi-task) | 3 | 0 | 3 |",
        "| Optim4RL (from Ant) | 10 | 0 | 0 |",
    ]


def test_the_words_and_tables(games):
    found = of_games(games)
    answer = comparison_report.headline(found)
    assert answer.startswith(
        "**Learned optimizers beside tuned Adam, which scores 1. On Asterix, Freeway, Breakout and "
        "SpaceInvaders pooled (3 seeds each) above it: OPEN"
    )
    assert "OPEN (multi-task) 1.30 [1.29, 1.31]" in answer
    assert "is above Adam on Asterix, Freeway, Breakout and SpaceInvaders and below on none." in (
        answer
    )
    table = comparison_report.finals_table(found)
    assert "n = 3" in table and table.splitlines()[-1].startswith("| Optim4RL (from Ant) | 4")
    assert "VeLO" not in table and "No run of VeLO" in comparison_report.missing(found)
    assert "| Breakout | 50.1 |" in comparison_published.published_table(found)


@pytest.mark.parametrize("figure", FIGURES)
def test_the_figures_with_runs(games, figure):
    drawn = figure(of_games(games))
    assert isinstance(drawn, Figure) and drawn.axes
    assert "loptrl run open_multitask" in drawn._supxlabel.get_text()


def test_curves_stand_beside_published_ones(games):
    drawn = comparison_figures.curves_figure(of_games(games))
    assert [axes.get_title(loc="left") for axes in drawn.axes] == list(GAMES.values())
    dotted = [line for line in drawn.axes[0].lines if line.get_linestyle() == ":"]
    assert len(dotted) == 3  # Adam, RMSProp and the multi-task OPEN
    assert drawn.axes[0].get_xlim()[1] == pytest.approx(1e7, rel=0.03)


def test_a_final_figure(games):
    drawn = comparison_figures.finals_figure(of_games(games), "breakout")
    assert any("Adam as published" in text.get_text() for text in drawn.axes[0].texts)


def test_bodies(store):
    found = of_bodies(store)
    assert "none of Adam (tuned on Ant)" in comparison_report.decided(found)
    fill(store, brax_ant, ["ant"], {"adam": 5000.0, "open": 5000.0, "open_multi": 1000.0})
    verdict = comparison_report.claims(of_bodies(store))["C11"]
    assert verdict.status == "supported"
    answer = comparison_report.headline(of_bodies(store))
    assert answer.startswith(
        "**Learned optimizers beside tuned Adam, which scores 1. On Ant (3 seeds each) above it: "
        "none; not told apart: OPEN (from Ant) 1.00 ["
    )
    assert "; below: OPEN (multi-task) 0.20 [" in answer
    assert "No run on Humanoid is stored yet." in answer
    drawn = comparison_figures.curves_figure(of_bodies(store))
    assert [axes.get_title(loc="left") for axes in drawn.axes] == ["Ant"]
    fill(store, brax_ant, ["humanoid"], {"adam": 4000.0})
    assert "Humanoid" not in comparison_report.headline(of_bodies(store)).partition("\n")[0]
    fill(store, brax_ant, ["humanoid"], {"open": 2000.0})
    answer = comparison_report.headline(of_bodies(store))
    assert (
        ". On Humanoid (3 seeds each) above it: none; not told apart: none; below: OPEN" in answer
    )
    few = comparison_report.headline(
        load(brax_ant.COMPARISON, seeds=2, store=store, compute="never")
    )
    assert few.count("(2 seeds, too few to tell)") == 3
    assert few.count("above it: none; not told apart: none; below: none") == 2
    fill(store, brax_ant, ["humanoid"], {"rmsprop": 9000.0, "optim4rl": 9000.0})
    answer = comparison_report.headline(of_bodies(store))
    assert ". On Humanoid (3 seeds each) above it: Optim4RL (from Ant) 2.25 [" in answer


@pytest.mark.parametrize("level", [-5.0, -100.0])
def test_where_adam_has_no_level_nothing_is_divided_by_it(store, level):
    scores = {"adam": 100.0, "open_multi": 150.0, "optim4rl": 50.0}
    fill(store, open_multitask, ["asterix", "breakout", "space_invaders"], scores)
    fill(store, open_multitask, ["freeway"], dict.fromkeys(scores, level))
    found = of_games(store)
    answer = comparison_report.headline(found)
    assert "On Asterix, Breakout and SpaceInvaders pooled (3 seeds each) above it: OPEN" in answer
    assert "Left out: Freeway, where not every run of Adam scores above 0." in answer
    assert comparison_report.claims(found)["C10"].status == "undecided"
    assert "Freeway" not in comparison_report.normalised_table(found)
    assert all(isinstance(figure(found), Figure) for figure in FIGURES)


def test_a_diverged_run_counts_as_the_random_policy(store):
    fill(store, brax_ant, ["ant"], {"adam": 5000.0}, diverged_after=5)
    assert of_bodies(store).scores["adam"]["ant"] == pytest.approx([-10.0] * 3)


def test_an_unknown_game_is_refused(store):
    with pytest.raises(LoptrlError, match=r"expected all or one of asterix, .*, got 'pong'"):
        of_games(store, only="pong")


def test_runs_as_long_as_the_report_s_stand_beside_them(games):
    """Its Breakout is 20 times shorter, its Ant twice as long: they are curves only."""
    table = comparison_published.reported_table(of_games(games)).splitlines()
    rows = [line.split(" | ")[:3] for line in table if line.startswith("| OPEN")]
    assert [row[1:] for row in rows] == [
        ["Asterix", "25.0, n = 18"],
        ["Freeway", "59.6, n = 18"],
        ["SpaceInvaders", "153.9, n = 18"],
    ]
    adam = next(line for line in table if line.startswith("| Adam (tuned) | Asterix"))
    here = np.mean([LEVELS["adam"] + seed for seed in range(3)])
    assert adam.endswith(f"| {100 * (here / 14.7861 - 1):+.0f} % |")


def test_longer_runs_of_the_report_are_compared_over_adam_s(games, store):
    """Its Ant ran to 50 million env steps: Adam 6426, the multi-task OPEN 2270."""
    assert not comparison_published.reported_over_adam(of_games(games))
    fill(store, brax_ant, ["ant"], {"adam": 5000.0, "open": 4000.0})
    assert not comparison_published.reported_over_adam(of_bodies(store))
    fill(store, brax_ant, ["ant"], {"open_multi": 1000.0})
    *_, row = comparison_published.reported_over_adam(of_bodies(store)).splitlines()
    assert row.startswith(
        "| OPEN (multi-task) | Ant | report 50M, here 20M | 0.35, n = 16 | 0.20 [0.20, 0.20"
    )


def test_a_run_of_the_official_code_stands_beside_those_here(games, store):
    """It reached 75 on Breakout with 1e7 env steps; no other optimizer or length has one."""
    words = comparison_published.official_words(of_games(games))
    assert words.startswith("One run of the official code with OPEN (this game's) on Breakout")
    assert " ended at 75; those here end at 15" in words and words.endswith("3 of 3 above it.")
    assert not comparison_published.official_words(of_games(store))
    assert not comparison_published.official_words(of_bodies(store))
    assert of_games(games, env_steps=1_000_000).official_run("breakout", "open") is None


def test_lines_of_others_are_named(games, store):
    def names(found):
        (legend,) = comparison_figures.curves_figure(found).legends
        return [text.get_text() for text in legend.get_texts()]

    assert names(of_games(games))[-2:] == ["the report's mean", "Adam as published"]
    fill(store, brax_ant, ["humanoid"], {"adam": 5000.0, "optim4rl": 4000.0})
    assert names(of_bodies(store))[-1] == "the report's mean"


def test_a_body_is_drawn_by_itself_with_the_seeds_that_it_has(store):
    """One seed has no interval, and P(better) of one seed against one says nothing."""
    fill(store, brax_ant, ["ant"], {"adam": 6000.0, "open": 5000.0})
    fill(store, brax_ant, ["humanoid"], {"adam": 5000.0, "open": 5500.0}, seeds=1)
    found = of_bodies(store)
    finals = {body: comparison_figures.finals_figure(found, body) for body in ("ant", "humanoid")}
    said = {body: [text.get_text() for text in f.axes[0].texts] for body, f in finals.items()}
    assert any("[" in text for text in said["ant"]) and "Adam as published" in said["ant"]
    assert "5,001, one seed" in said["humanoid"] and "[" not in "".join(said["humanoid"])
    for draw in (comparison_figures.improvement_figure, comparison_figures.profiles_figure):
        assert draw(found, ["ant"]).axes and not draw(found, ["humanoid"]).axes
    axes = comparison_figures.improvement_figure(found, ["ant"]).axes[0]
    assert axes.get_xlim()[0] < 0 and axes.get_xlim()[1] > 1
    assert [t.get_text() for t in axes.texts if t.get_text().startswith("OPEN")] == [
        "OPEN (from Ant), 0 of 9 pairs"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("notebook", "parameters", "images", "arms"),
    [
        ("04_open_multitask", {"games": "breakout"}, 4, ["breakout.adam", "breakout.rmsprop"]),
        ("05_brax_ant", {"bodies": "ant"}, 7, ["ant.adam", "ant.rmsprop"]),
    ],
)
def test_the_notebooks_train_and_make_a_page(
    tmp_path, monkeypatch, library_path, notebook, parameters, images, arms
):
    """At smoke size, with no weights here: the hand-designed optimizers are trained for real."""
    import nbformat

    # One training for real is enough on the Ant, which takes long to compile.
    for spec in brax_ant.STUDY.specs("smoke", ["ant.rmsprop"], 1, env_steps=512):
        stored_runs.keep(Store(tmp_path / "data" / "results", tmp_path / "scratch"), spec, 100.0)
    # No weights at all.
    shutil.rmtree(tmp_path / "data" / "weights")
    given = {"budget": "smoke", "env_steps": "512", "seeds": "1", **parameters}
    path = repo_root() / "notebooks" / f"{notebook}.md"
    page = book.execute(path, given, to="tiny", output_dir=tmp_path / "pages")
    runs = sorted((tmp_path / "data" / "results").glob("*/*/*.parquet"))
    assert [run.parent.name for run in runs] == sorted({*arms, "ant.rmsprop"})
    node = nbformat.read(page, as_version=4)
    shown = [o for c in node.cells for o in c.get("outputs", []) if "image/png" in o["data"]]
    assert len(shown) == images
    text = page.read_text(encoding="utf-8")
    assert "missing, among them all of " in text and str(tmp_path) not in text
