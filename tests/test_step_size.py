"""Step sizes on the changing Ant: its runs, its words with whatever is stored, and its page."""

from __future__ import annotations

import dataclasses
import itertools
import re

import jupytext
import numpy as np
import pytest
from matplotlib.text import Text

import stored_runs
from loptrl import book, weights
from loptrl.paths import repo_root
from loptrl.runs import Store
from loptrl.studies import (
    adam_collapse,
    beside_adam,
    changing_ant_figures,
    meta_recipes,
    open_change,
    optim4rl_l2,
    optim4rl_steps,
    step_size_figures,
    transfer,
)
from loptrl.studies import step_size_report as report
from loptrl.studies.step_size import STUDY

NOTEBOOK = repo_root() / "notebooks" / "14_step_size.md"
PROSE = " ".join(NOTEBOOK.read_text(encoding="utf-8").split())
ROOT = sum(optim4rl_steps.network_weights()) ** 0.5


def keep(store, study, arms, level, *, update_norm=0.01, gradient=1.0, seeds=3):
    """Runs of a study that end at a level and take steps of one length."""
    for spec in study.specs("laptop", arms, seeds=seeds):
        metrics = {
            "update_norm": lambda rows: np.full(rows, update_norm),
            "grad_norm": lambda rows: np.linspace(0.5, 1.5, rows) * gradient,
        }
        stored_runs.keep(store, spec, level + spec.seed, metrics=metrics)


def drawn(evidence):
    names = {
        "figures": changing_ant_figures,
        "step_size_figures": step_size_figures,
        "report": report,
        "evidence": evidence,
    }
    cells = jupytext.read(NOTEBOOK).cells
    found = [c.source for c in cells if re.match(r"(step_size_)?figures\.", c.source)]
    return [eval(source, names) for source in found]


def test_each_arm_differs_from_another_studys_in_what_its_name_says():
    adam = adam_collapse.STUDY.config("adam")
    for rate in ("1e-4", "1e-3"):
        rule = dataclasses.replace(adam.optimizer, learning_rate=float(rate))
        assert STUDY.config(f"adam_{rate}") == dataclasses.replace(adam, optimizer=rule)
    raw = {"max_grad_norm": None, "normalize_rewards": False}
    assert STUDY.config("adam_raw") == dataclasses.replace(adam, **raw)
    for longer, other in (
        *((f"adam_raw_{rate}", "adam_raw") for rate in ("1e-3", "3e-3")),
        ("untrained_raw_1.5e-3", "untrained_raw"),
    ):
        config = STUDY.config(other)
        rate = float(longer.rpartition("_")[2])
        rule = dataclasses.replace(config.optimizer, learning_rate=rate)
        assert STUDY.config(longer) == dataclasses.replace(config, optimizer=rule)
    for arm, other, agent in (
        ("published_unclipped", "published", {"max_grad_norm": None}),
        ("published_raw", "published", raw),
        ("untrained_raw", "untrained", raw),
    ):
        mine, theirs = (s.config(a).to_dict() for s, a in ((STUDY, arm), (transfer.STUDY, other)))
        assert mine == {**theirs, **agent}
    mine, theirs = (
        s.config(a).to_dict() for s, a in ((STUDY, "drift_raw"), (optim4rl_l2.STUDY, "drift"))
    )
    assert mine.pop("optimizer")["sha256"] == weights.digest("optim4rl/drift_raw")
    del theirs["optimizer"]
    assert mine == {**theirs, **raw}


def test_the_recipes_differ_in_the_agent_alone():
    names = ("drift", "drift_raw", "drift_raw_1e-3")
    clipped, raw, fast = (meta_recipes.recipe("optim4rl", name).config for name in names)
    assert raw == dataclasses.replace(clipped, agent=meta_recipes.RAW)
    assert fast == dataclasses.replace(raw, meta_learning_rate=1e-3)
    assert raw.meta_learning_rate == 1e-4 and "a third with ten times the meta" in PROSE
    assert "differs from it in these two settings of its agents and in nothing else" in PROSE


def test_the_study_has_three_seeds_an_arm():
    assert len(STUDY.specs("laptop")) == 11 * 3


def test_the_graph_holds_every_set_of_trained_weights_under_change():
    for optimizer, drawn in (("Optim4RL", report.OPTIM4RL), ("OPEN", report.OPEN)):
        trained = {arm for arms in beside_adam.TRAINED[optimizer].values() for arm in arms}
        assert trained <= set(drawn) <= set(report.ARMS)


def test_nothing_stored_is_said_and_not_drawn(store):
    found = report.load(store=store, compute="never")
    assert report.headline(found).startswith("**No run of Adam on the changing Ant is stored:")
    for name in ("on_steps", "on_agents", "overview"):
        assert "nan" not in getattr(report, name)(found)
    for figure in drawn(found):
        assert not figure.axes and figure.findobj(Text)


def test_ends_stand_over_the_length_of_the_steps(store):
    keep(store, adam_collapse.STUDY, ["adam"], 4000.0, update_norm=1e-4 * ROOT)
    keep(store, STUDY, ["adam_1e-4"], 3000.0, update_norm=3e-5 * ROOT)
    keep(store, STUDY, ["adam_1e-3"], 5000.0, update_norm=3e-4 * ROOT)
    keep(store, optim4rl_l2.STUDY, ["drift"], 3500.0, update_norm=1e-3 * ROOT)
    keep(store, optim4rl_l2.STUDY, ["reduced"], 4500.0, update_norm=2e-3 * ROOT)
    keep(store, optim4rl_l2.STUDY, ["drift_l2"], 9999.0, seeds=2)
    keep(store, open_change.STUDY, ["open"], 4000.0)
    found = report.load(store=store, compute="never")
    words = report.headline(found)
    ends = re.findall(r"(\d,\d+) \[[^]]*\] with a step size of (\S+?)[,; ]", words)
    assert [(end[0], rate) for end, rate in ends] == [("3", "1e-4"), ("4", "3e-4"), ("5", "1e-3")]
    assert "3e-4 (the default, 3 seeds)" in words and "raw rewards" not in words
    assert words.count("3 seeds, on which the default ends at 4,") == 2
    assert (
        "of 2 arms of Optim4RL, which differ in their weights or their step size and move a weight "
        "by 1.0e-03 to 2.0e-03 in an update, 1 is" in (words)
    )
    assert "seed against seed, and 1 below.**" in words
    assert words.endswith("beneath the tables stands what is missing.")
    places = report.placed(found, "drift", "drift_l2", "reduced", "published")
    assert [(arm, round(length, 6), round(d.value)) for arm, length, d in places] == [
        ("drift", 1e-3, -500),
        ("reduced", 2e-3, 500),
    ], "two seeds or none are too few"
    (axes,) = step_size_figures.steps_figure(found).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    adam = lines["Adam, by its step size"]
    np.testing.assert_allclose(adam.get_xdata(), [3e-5, 1e-4, 3e-4], rtol=1e-6)
    np.testing.assert_allclose(adam.get_ydata(), [-1000, 0, 1000], atol=1)
    rule = lines["Optim4RL, each set of weights and step size"]
    np.testing.assert_allclose(rule.get_ydata(), [-500, 500], atol=1)
    table = re.findall(r"^\| (.*?) \| 3 \| (\S+) \|", report.on_steps(found), re.M)
    assert [row for row in table if row[0].startswith("Optim4RL")] == [
        ("Optim4RL (direct)", "1.0e-03"),
        ("Optim4RL (direct, reduced)", "2.0e-03"),
    ]


def test_agents_are_told_apart(store):
    """Optim4RL is compared with Adam in the same agent; what it read and how it answered."""
    keep(store, adam_collapse.STUDY, ["adam", "no_gradient_clip"], 4000.0)
    keep(store, transfer.STUDY, ["published"], 3000.0, update_norm=3e-4 * ROOT, gradient=ROOT)
    keep(store, STUDY, ["published_raw"], 6000.0, update_norm=6e-5 * ROOT, gradient=40 * ROOT)
    keep(store, STUDY, ["adam_raw"], 5000.0)
    keep(store, STUDY, ["untrained_raw"], 7000.0)
    found = report.load(store=store, compute="never")
    words = report.on_agents(found)
    cell = r" ([^|]*) \|"
    rows = re.findall(rf"^\| (w[^|]*) \|{cell} 3 \| [^|]*\|{cell}{cell}", words, re.M)
    differences = {(agent, rule): (adams, bare) for agent, rule, adams, bare in rows}
    clipped, raw = "with the gradient clip", "without the clip, raw rewards"
    authors = "Optim4RL, report's authors' weights"
    assert len(differences) == 6 and differences[clipped, "Adam"] == ("", "")
    below, missing = differences[clipped, authors]
    assert below.startswith("-1,0") and missing == "-", "there is no untrained run"
    above, below = differences[raw, authors]
    assert above.startswith("1,0") and below.startswith("-1,0")
    above, own = differences[raw, "Optim4RL, untrained"]
    assert above.startswith("2,0") and own == ""
    assert "Adam without the clip minus default Adam (3 seeds, seed against seed)" in words
    whose = "Optim4RL, report's authors' weights"
    assert f"| with the gradient clip | {whose} | 0.5 to 1.5 | 1.00 | 1.00 to 1.00 |" in words
    assert f"| without the clip, raw rewards | {whose} | 20 to 60 | 0.20 | 0.20 to 0.20 |" in words
    axes = step_size_figures.agents_figure(found).axes
    assert [a.get_title(loc="left") or a.get_title() for a in axes] == list(report.AGENTS)


def test_the_rule_trained_on_raw_rewards_stands_beside_the_others_there(store):
    keep(store, adam_collapse.STUDY, ["adam"], 9000.0)
    keep(store, STUDY, ["drift_raw_1e-3"], 5000.0, update_norm=1.5e-3 * ROOT)
    keep(store, STUDY, ["adam_raw"], 6000.0, update_norm=1e-4 * ROOT)
    words = report.headline(report.load(store=store, compute="never"))
    assert re.search(r"1e-3\) is 5,0\d\d \[.*; minus that of Adam \(3 .*\): -1,0.*, worse:", words)
    assert "untrained" not in words and "Its steps" not in words
    keep(store, STUDY, ["untrained_raw"], 3000.0, update_norm=3e-4 * ROOT)
    words = report.headline(report.load(store=store, compute="never"))
    assert re.search(r"that of Optim4RL, untrained \(3 .*\): 2,0.*, better: the interval", words)
    assert re.search(r"whole run, minus Adam's there: -\d+ \[.*, worse:", words)
    assert "Its steps are 5.0 times as long as those of untrained weights and 15.0 times" in words
    assert words.count("was not tried") == 1
    keep(store, STUDY, ["untrained_raw_1.5e-3"], 4500.0, update_norm=1.5e-3 * ROOT)
    keep(store, STUDY, ["adam_raw_3e-3"], 6500.0, update_norm=1e-3 * ROOT)
    found = report.load(store=store, compute="never")
    words = report.headline(found)
    assert "was not tried" not in words
    assert re.search(
        r"learned nothing: Optim4RL, untrained, five times the step \(3 .*\): 5\d\d ", words
    )
    assert re.search(r"; Adam, 3e-3 \(3 .*\): -1,5.*, worse:", words)
    (axes,) = step_size_figures.raw_steps_figure(found).axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    adam = lines["Adam, by its step size"]
    np.testing.assert_allclose(adam.get_xdata(), [1e-4, 1e-3], rtol=1e-6)
    np.testing.assert_allclose(adam.get_ydata(), [0, 500], atol=1)
    untrained = lines["Optim4RL, untrained, by its step size"]
    np.testing.assert_allclose(untrained.get_ydata(), [-3000, -1500], atol=1)
    long = rf"\| {report.WHO['untrained_long']} \| [^|]* \| 1.00 \| 1.00 to 1.00 \|"
    assert re.search(long, report.on_agents(found)), "steps in units of the arm's own α"


def test_all_runs_make_all_figures(store):
    keep(store, adam_collapse.STUDY, ["adam", "no_gradient_clip"], 4000.0)
    keep(store, STUDY, list(STUDY.arms), 3000.0)
    found = report.load(store=store, compute="never")
    for figure in drawn(found):
        assert figure.axes and figure._repr_png_()
    assert "optim4rl/ant" in report.overview(found)


def test_the_prose_says_what_the_study_does():
    assert f"to a norm of {optim4rl_steps.CLIP:g} before the optimizer sees it" in PROSE
    assert "Adam also has arms with a third of its step size and with three times it" in PROSE
    assert "Adam has three, a factor of about three apart, in each of two agents." in PROSE
    rates = [float(rate) for rate in report.ADAM.values()]
    arms = [report.RAW[name] for name in ("adam", "adam_1e-3", "adam_3e-3")]
    raw = [STUDY.config(arm).optimizer.learning_rate for arm in arms]
    for own in (rates, raw):
        assert len(own) == 3 and all(2.9 < b / a < 3.5 for a, b in itertools.pairwise(own))
    assert adam_collapse.STUDY.config("adam").optimizer.learning_rate == rates[1] == raw[0]
    (command,) = re.findall(
        r"^loptrl execute notebooks/14_step_size.md (.*)$", NOTEBOOK.read_text(), re.M
    )
    parameters = book.parameters(NOTEBOOK)
    for pair in re.findall(r"-p (\S+)", command):
        name, _, value = pair.partition("=")
        assert parameters[name].parse(value) is not None


@pytest.mark.slow
def test_the_notebook_makes_a_page(tmp_path, monkeypatch, library_path):
    """At smoke size from stored runs; without weights nothing is trained."""
    arrays = weights.load("optim4rl/untrained").arrays
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    for name in ("untrained", "drift_raw", "drift_raw_1e-3"):
        stored_runs.keep_weights(tmp_path / "data", name, arrays)
    store = Store(tmp_path / "data" / "results", tmp_path / "scratch")
    for study, arms in (
        (adam_collapse.STUDY, ["adam", "no_gradient_clip"]),
        (open_change.STUDY, ["adam_annealed"]),
        (transfer.STUDY, ["untrained"]),
        (STUDY, list(STUDY.arms)),
    ):
        for spec in study.specs("smoke", arms, 3, env_steps=400):
            stored_runs.keep(store, spec, 2000.0)
    given = {"budget": "smoke", "env_steps": "400", "seeds": "3", "compute": "missing"}
    page = book.execute(NOTEBOOK, given, to="tiny", output_dir=tmp_path / "pages")
    text = page.read_text(encoding="utf-8")
    assert text.count('"image/png"') == 5 and str(tmp_path) not in text
    assert "**On the changing Ant Adam ends at" in text
