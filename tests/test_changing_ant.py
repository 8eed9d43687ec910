"""The pages of studies 2 and 3: right with whatever runs are stored, weights here or not."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import stored_runs
from loptrl import drive, weights
from loptrl.errors import DamagedRun, LoptrlError
from loptrl.paths import repo_root
from loptrl.ppo.config import PPOConfig
from loptrl.runs import Store
from loptrl.specs import plain
from loptrl.studies import (
    adam_collapse,
    changing_ant_figures,
    meta_recipes,
    optim4rl_l2,
    optim4rl_l2_report,
    transfer,
    transfer_report,
)

NOTEBOOKS = {
    name: repo_root() / "notebooks" / f"{name}.md" for name in ("02_optim4rl_l2", "03_transfer")
}
OURS = (
    *("drift", "drift_l2", "drift_long", "no_pipeline", "reduced"),
    *("stationary", "curriculum", "untrained"),
)
REPORTS = (optim4rl_l2_report, transfer_report)
WORDS = {
    optim4rl_l2_report: ("on_direct", "on_l2", "on_sizes", "on_inside", "overview"),
    transfer_report: ("on_transfer", "on_authors", "on_curriculum", "overview"),
}


def recovering(steps, friction, seed):
    """A collapse at the level of `stored_runs.collapsing`, after a dip that is left."""
    values = stored_runs.collapsing(steps, friction, seed)
    return np.where((steps > 4e6) & (steps < 4.5e6), 500.0, values)


LEVELS = {
    "adam": stored_runs.dipping,
    "drift": stored_runs.collapsing,
    "drift_l2": recovering,
    "transferred": stored_runs.collapsing,
    "curriculum": stored_runs.dipping,
    "no_pipeline": 1500.0,
    "published_1_still": 2500.0,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data folder with weights of ours and nobody else's, and an empty cache."""
    folder = tmp_path_factory.mktemp("place")
    patch = pytest.MonkeyPatch()
    patch.setenv("LOPTRL_DATA", str(folder / "data"))
    patch.setenv("LOPTRL_CACHE", str(folder / "cache"))
    for number, name in enumerate(OURS):
        stored_runs.keep_weights(folder / "data", name, {"w": np.full(3, number, np.float32)})
    yield folder
    patch.undo()


def fill(store: Store, study, arms=None, seeds=None) -> None:
    for spec in study.specs("laptop", arms, seeds):
        stored_runs.keep(store, spec, LEVELS.get(spec.arm, 2000.0))


@pytest.fixture(scope="module")
def full(place):
    """Everything the laptop budget asks for."""
    store = Store(place / "data" / "results", place / "scratch")
    fill(store, adam_collapse.STUDY, ["adam", "stationary"])
    fill(store, optim4rl_l2.STUDY)
    fill(store, transfer.STUDY)
    return store


@pytest.fixture(scope="module")
def evidences(full):
    """The complete evidence of each report."""
    return {report: report.load(store=full, compute="never") for report in REPORTS}


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """No weights at all."""
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))


def drawn(report, evidence) -> list[Figure]:
    """The figures of a report's notebook, as its cells draw them."""
    import jupytext

    name = {optim4rl_l2_report: "02_optim4rl_l2", transfer_report: "03_transfer"}[report]
    cells = jupytext.read(NOTEBOOKS[name]).cells
    names = {"figures": changing_ant_figures, "report": report, "evidence": evidence}
    sources = [c.source for c in cells if c.source.startswith("figures.")]
    return [eval(source, names) for source in sources]


# --- which runs ---------------------------------------------------------------------------------


def test_only_the_rule_differs_from_the_runs_of_adam(place):
    adam = adam_collapse.STUDY.config("adam").to_dict()
    still = adam_collapse.STUDY.config("stationary").to_dict()
    for study in (optim4rl_l2.STUDY, transfer.STUDY):
        for arm in study.arms:
            config = study.config(arm).to_dict()
            rule = config.pop("optimizer")
            other = dict(still if arm in transfer.STILL.values() else adam)
            del other["optimizer"]
            assert config == other, arm
            assert rule["name"] == "optim4rl" and rule["sha256"] == weights.digest(rule["weights"])


def test_the_runs_of_both_studies(place):
    def count(study):
        specs = study.specs("laptop")
        return {arm: sum(spec.arm == arm for spec in specs) for arm in study.arms}

    expected = dict.fromkeys(optim4rl_l2.STUDY.arms, 5) | {"small_step": 3}
    assert count(optim4rl_l2.STUDY) == expected
    still = set(transfer.STILL.values())
    assert count(transfer.STUDY) == {arm: 3 if arm in still else 5 for arm in transfer.STUDY.arms}
    assert len(transfer.STUDY.arms) == 11
    rules = {
        PPOConfig.from_dict(plain(spec.config)).optimizer.weights
        for study in (optim4rl_l2.STUDY, transfer.STUDY)
        for spec in study.specs("laptop")
    }
    published = {f"optim4rl/{name}" for name in ("ant", "ant_1", "ant_22")}
    assert rules == published | {f"optim4rl/{name}" for name in OURS}
    trained = set(meta_recipes.RECIPES["optim4rl"])
    assert set(OURS) - {"untrained"} <= trained


def test_what_is_borrowed_is_trained_with_its_own_study(place, store, monkeypatch):
    calls = []

    def recorded(specs, make_program, **settings):
        calls.append({(spec.study, spec.arm) for spec in specs})
        return drive.Results([])

    monkeypatch.setattr(drive, "load_or_run", recorded)
    found = transfer_report.load(store=store, env_steps=2_000_000, seeds=2)
    assert set.union(*calls) == {
        *(("adam_collapse", arm) for arm in ("adam", "stationary")),
        *(("optim4rl_l2", arm) for arm in ("drift", "drift_long")),
        *(("transfer", arm) for arm in transfer.STUDY.arms if "published" not in arm),
    }
    assert found.planned("adam") == found.planned("published_1") == 2
    assert found.planned_length("drift") == 2_000_000
    calls.clear()
    transfer_report.load(store=store)
    assert calls == []


def test_commands_name_each_study_once(evidences):
    found = evidences[transfer_report]
    assert found.command("transferred", "adam") == (
        "loptrl run transfer --budget laptop --arm transferred && "
        "loptrl run adam_collapse --budget laptop --arm adam"
    )
    assert found.command() == (
        "loptrl run transfer --budget laptop && "
        "loptrl run adam_collapse --budget laptop --arm adam --arm stationary && "
        "loptrl run optim4rl_l2 --budget laptop --arm drift --arm drift_long"
    )


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.__name__[15:])
def test_nothing_stored_and_no_weights_is_said_and_not_drawn(nobody, store, report):
    found = report.load(store=store, compute="never")
    assert "nothing can be said yet" in report.headline(found)
    assert "Not every planned run is stored" in report.headline(found)
    assert {v.status for v in report.claims(found).values()} == {"undecided"}
    for name in WORDS[report]:
        assert "nan" not in getattr(report, name)(found)
    table = report.overview(found)
    assert "| Adam, default betas | none of 5 | missing |" in table
    assert "Missing runs: " in table and "Adam, default betas (5 of 5)" in table
    assert "No run of these: Optim4RL (" in table and "not known here" in table
    for figure in drawn(report, found):
        assert figure.axes == [] and "Not drawn" in figure.texts[0].get_text()


def test_arms_without_weights_stand_beside_those_with_runs(nobody, store):
    fill(store, adam_collapse.STUDY, ["adam"], 3)
    found = optim4rl_l2_report.load(store=store, compute="never")
    assert found.without_weights() == list(optim4rl_l2.STUDY.arms)
    assert found.missing() == {"adam": 2}
    table = optim4rl_l2_report.overview(found)
    assert "| Adam, default betas | 3 of 5 |" in table
    assert "| Optim4RL (direct) | - | missing |" in table
    assert "No run is stored of Optim4RL (direct)." in optim4rl_l2_report.on_direct(found)
    assert optim4rl_l2_report.on_inside(found).startswith("No runs that did not diverge are stored")
    texts = {t.get_text() for t in drawn(optim4rl_l2_report, found)[0].findobj(Text)}
    assert "Adam, default betas" in texts and "Optim4RL (direct)" not in texts


def test_too_few_seeds_decide_nothing(place, store):
    fill(store, adam_collapse.STUDY, ["adam"])
    fill(store, optim4rl_l2.STUDY, ["drift"], 2)
    found = optim4rl_l2_report.load(store=store, compute="never")
    verdict = optim4rl_l2_report.claims(found)["C5"]
    assert verdict.status == "undecided" and "2 seeds of Optim4RL (direct)" in verdict.reason
    assert "no seeds of Optim4RL (direct, L2)" in optim4rl_l2_report.claims(found)["C6"].reason


@pytest.mark.parametrize("below", [200.0, -200.0])
def test_what_the_pairs_of_seeds_would_decide_is_said(place, store, below):
    """Seeds far apart, and an arm a little below another (or above it) on every one of them."""
    study = {"adam": adam_collapse.STUDY, "drift": optim4rl_l2.STUDY}
    arms = {"adam": 0.0, "drift": below, "curriculum": 2 * below, "transferred": below}
    for arm, less in arms.items():
        for spec in study.get(arm, transfer.STUDY).specs("laptop", [arm]):
            stored_runs.keep(store, spec, 3000.0 + 1500.0 * spec.seed - less)
    direct, moved = (r.claims(r.load(store=store, compute="never")) for r in REPORTS)
    assert direct["C5"].status == "contradicted" and moved["C8"].status == "undecided"
    words = "By the seeds' pairs C5 would not be", "By the seeds' pairs C8 would be contradicted."
    said = direct["C5"].reason, moved["C8"].reason
    assert [a in b for a, b in zip(words, said, strict=True)] == [below > 0] * 2


def test_a_damaged_run_is_refused_by_name(place, store):
    fill(store, optim4rl_l2.STUDY, ["drift"], 1)
    (spec,) = optim4rl_l2.STUDY.specs("laptop", ["drift"], 1)
    data = bytearray(store.path(spec).read_bytes())
    data[len(data) // 2] ^= 1
    store.path(spec).write_bytes(data)
    with pytest.raises(DamagedRun, match=spec.key):
        optim4rl_l2_report.load(store=store, compute="never")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute": "perhaps"}, "compute must be one of"),
        ({"budget": "desktop"}, "unknown budget 'desktop'"),
        ({"seeds": -1}, "seeds must be"),
    ],
)
def test_bad_parameters_are_refused(place, store, options, message):
    with pytest.raises(LoptrlError, match=message):
        transfer_report.load(store=store, **options)


# --- numbers, verdicts, words -------------------------------------------------------------------


def test_the_implied_step_is_the_update_over_the_gradient(evidences):
    found = evidences[optim4rl_l2_report]
    steps, ratio = found.metric("drift", "implied_step")
    _, update = found.metric("drift", "update_norm")
    _, gradient = found.metric("drift", "grad_norm")
    assert steps[0] > 0 and ratio.shape == (5, steps.size)
    np.testing.assert_array_equal(ratio, update / gradient)


def test_the_verdicts_on_complete_evidence(evidences):
    found = {
        name: verdict.status
        for report in REPORTS
        for name, verdict in report.claims(evidences[report]).items()
    }
    # All directly trained seeds collapse, none of Adam's; with L2 one dip more is left, to the
    # same end; the reduced sizes end higher. Ours starts well and collapses, the authors' does
    # not; the curriculum ends as high as Adam.
    assert found == {
        "C5": "supported",
        "C6": "supported",
        "C14": "contradicted",
        "C7 (ours)": "supported",
        "C7 (the authors')": "contradicted",
        "C8": "supported",
    }


def test_the_headlines_state_what_the_runs_show(evidences):
    direct = optim4rl_l2_report.headline(evidences[optim4rl_l2_report])
    interval = re.compile(r" \[[\d,]+, [\d,]+\]")
    assert len(interval.findall(direct)) == 4
    assert interval.sub("", direct).startswith(
        "**On the changing Ant Optim4RL that was meta-trained there ends at 102, below default "
        "Adam on 5 of the 5 seeds that both have, and 5 of 5 seeds collapse; with L2 in "
        "meta-training it ends at 102, below default Adam on 5 of the 5 seeds that both have, and "
        "5 of 5 seeds collapse; default Adam ends at 4,020, and none of 5 seeds collapses.** "
        "Final return after 1e8 env steps of meta-training, the official length, minus that after "
        "3e7 (5 seeds, seed against seed): 1,898, better: the interval excludes 0.\n\n"
        "*Supported*: poor, and collapses more than Adam (C5)"
    )
    moved = transfer_report.headline(evidences[transfer_report])
    assert interval.sub("", moved).startswith(
        "**On the changing Ant Optim4RL that was meta-trained where nothing changes returns 4,000 "
        "after a quarter of the run, ends at 102, below default Adam on 5 of the 5 seeds that both "
        "have, and 5 of 5"
    )
    assert "Of the 7 sets of trained weights on this page 1 is shown to end above random" in moved
    assert "a good start, then a collapse (C7, ours)" in moved
    for words in (direct, moved):
        assert "Not every planned run" not in words


def test_the_words_hold_verdicts_and_numbers(evidences):
    direct = evidences[optim4rl_l2_report]
    for name, claim in (("on_direct", "C5"), ("on_l2", "C6"), ("on_sizes", "C14")):
        verdict = optim4rl_l2_report.claims(direct)[claim]
        words = getattr(optim4rl_l2_report, name)(direct)
        assert f"**{claim}.**" in words and f"**{verdict.status}**. {verdict.reason}" in words
    inside = optim4rl_l2_report.on_inside(direct)
    assert inside.startswith("Update norm over the whole run, in multiples of Adam's: Optim4RL")
    table = optim4rl_l2_report.overview(direct)
    assert "| Optim4RL (direct, L2) | 5 | 102 | 5 of 5 | 5 of 10 |" in table
    assert "| optim4rl/drift\\_l2 | made up, drift\\_l2 | 30M |" in table
    assert "Missing runs" not in table and "untrained policy's return is -10.0" in table
    moved = evidences[transfer_report]
    words = transfer_report.on_transfer(moved)
    assert "Return around 4.97M env steps: Adam, default betas 4,020" in words
    assert words.count("Here, ") == 2 and "Here, the authors'" in words
    assert "Optim4RL (untrained)" in transfer_report.on_authors(moved)
    gained = [x for x in transfer_report.on_authors(moved).splitlines() if x.startswith("- ")]
    paired = "(5 seeds, seed against seed): "
    over_untrained, over_adam = gained[:7], gained[7:]
    assert len(over_adam) == 8 and over_adam[-1].startswith("- Optim4RL (untrained) (5 seeds, seed")
    assert over_adam[1].startswith("- Optim4RL (direct)") and "-3,918 [" in over_adam[1]
    gained = over_untrained
    assert gained[0].startswith(f"- Optim4RL (trained without change) {paired}-1,898 [")
    assert gained[0].endswith("worse: the interval excludes 0.")
    assert all("undecided" in line for line in (gained[2], *gained[4:])), (
        "as far as the untrained weights"
    )
    still = transfer_report.on_authors(moved).splitlines()[-1]
    assert still.startswith("On the stationary Ant, which the next graph shows: Final return: Adam")
    best = "Optim4RL (authors', reset 32), no change (3 seeds, seed against seed): -500 ["
    assert f"best there, {best}" in still
    sizes = optim4rl_l2_report.on_sizes(direct)
    assert f"minus that with it {paired}" in sizes and f"minus that after 3e7 {paired}" in sizes
    assert "**C8.**" in transfer_report.on_curriculum(moved)
    assert "reset interval 32" in transfer_report.overview(moved)


def test_a_dip_that_begins_too_late_is_counted_by_itself(place, store):
    def falling(steps, friction, seed):
        return np.where((steps > 0.95 * steps[-1]) & (seed == 0), 500.0, 4000.0)

    for spec in optim4rl_l2.STUDY.specs("laptop", ["drift"], 2):
        stored_runs.keep(store, spec, falling)
    table = optim4rl_l2_report.overview(optim4rl_l2_report.load(store=store, compute="never"))
    assert "| 0 of 2, 1 too late to tell | 0 of 1 |" in table


def test_diverged_runs_are_left_out_of_the_diagnostics_and_counted(place, store):
    for spec in optim4rl_l2.STUDY.specs("laptop", ["drift", "drift_l2"], 2):
        over = 30 if spec.seed or spec.arm == "drift_l2" else None
        stored_runs.keep(store, spec, 2000.0, diverged_after=over)
    found = optim4rl_l2_report.load(store=store, compute="never")
    table = optim4rl_l2_report.overview(found)
    assert "| 1 of 2 |" in table
    assert "| Optim4RL (direct, L2) | - | - | - | - | - | 2 of 2 |" in table
    assert all(isinstance(figure, Figure) for figure in drawn(optim4rl_l2_report, found))


# --- figures and notebooks ----------------------------------------------------------------------


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.__name__[15:])
def test_every_figure_names_its_runs(evidences, report):
    figures = drawn(report, evidences[report])
    assert len(figures) == (5 if report is optim4rl_l2_report else 6)
    for figure in figures:
        small = " ".join(figure._supxlabel.get_text().split())
        assert small.startswith("runs ") and "laptop budget" in small
        assert "20M env steps" in small and "loptrl run " in small
        assert figure.get_axes()


def test_what_the_graphs_draw(evidences):
    graph_3, graph_4, sizes, inside, dips = drawn(optim4rl_l2_report, evidences[optim4rl_l2_report])
    for figure, labels in (
        (graph_3, {"Adam, default betas", "Optim4RL (direct)"}),
        (graph_4, {"Optim4RL (direct)", "Optim4RL (direct, L2)"}),
    ):
        returns, friction, strength = figure.axes
        lines = [line for line in returns.get_lines() if not line.get_label().startswith("_")]
        assert {line.get_label() for line in lines} == labels
        assert len({line.get_color() for line in lines}) == 2
        assert "friction, a row a seed" in friction.get_title(loc="left")
        assert len(strength.get_lines()) == 5
    assert [axes.get_title(loc="left") for axes in sizes.axes] == [
        "Optim4RL (direct, 1e8)",
        "Optim4RL (direct, no pipeline)",
        "Optim4RL (direct, reduced)",
        "Optim4RL (direct, a sixth of the step)",
    ]
    assert len(inside.axes) == len(changing_ant_figures.INSIDE)
    assert inside.axes[1].get_title(loc="left") == "implied step size (log)"
    assert any(
        "5 of 5 collapse, 5 of 10 dips recovered" in t.get_text() for t in dips.findobj(Text)
    )


@pytest.mark.parametrize(("name", "report"), [*zip(NOTEBOOKS, REPORTS, strict=True)])
def test_stored_results_are_drawn_without_jax(full, place, name, report):
    import jupytext

    blocked = "import sys\nfor name in ('jax', 'brax', 'flax', 'optax'): sys.modules[name] = None"
    cells = [c.source for c in jupytext.read(NOTEBOOKS[name]).cells if c.cell_type == "code"]
    code = "\n".join([blocked, *cells[:3], "assert not evidence.incomplete"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(repo_root() / "lib")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
