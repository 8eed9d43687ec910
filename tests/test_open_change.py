"""OPEN on the changing Ant: its runs, its words with whatever is stored, and its page."""

from __future__ import annotations

import dataclasses
import re

import jupytext
import pytest
from matplotlib.text import Text

import stored_runs
from loptrl import book, weights
from loptrl.paths import repo_root
from loptrl.ppo.config import PPOConfig
from loptrl.runs import Store
from loptrl.studies import adam_collapse, changing_ant_figures, open_agent
from loptrl.studies import open_change_report as report
from loptrl.studies.open_change import STILL, STUDY

NOTEBOOK = repo_root() / "notebooks" / "13_open_change.md"
PROSE = " ".join(NOTEBOOK.read_text(encoding="utf-8").split())


def fill(store, arms=None, levels=None):
    for study, own in ((adam_collapse.STUDY, ["adam", "stationary"]), (STUDY, list(STUDY.arms))):
        for spec in study.specs("laptop", [arm for arm in own if arms is None or arm in arms]):
            stored_runs.keep(store, spec, (levels or {}).get(spec.arm, 2000.0) + spec.seed)


def drawn(evidence):
    names = {"figures": changing_ant_figures, "report": report, "evidence": evidence}
    cells = jupytext.read(NOTEBOOK).cells
    return [eval(c.source, names) for c in cells if c.source.startswith("figures.")]


def test_only_the_rule_differs_from_the_runs_of_adam():
    annealed = STUDY.config("adam_annealed")
    assert annealed == dataclasses.replace(
        adam_collapse.STUDY.config("adam"), optimizer=annealed.optimizer
    )
    rule = annealed.optimizer
    assert (rule.learning_rate, rule.b1, rule.b2, rule.anneal) == (3e-4, 0.99, 0.99, True)
    assert "both betas 0.99 and a step size that falls from 3e-4 to 0 over the run" in PROSE
    for arm in set(STUDY.arms) - {"adam_annealed"}:
        beside = "stationary" if arm in STILL.values() else "adam"
        mine, adams = (
            s.config(a).to_dict() for s, a in ((STUDY, arm), (adam_collapse.STUDY, beside))
        )
        rule = mine.pop("optimizer")
        del adams["optimizer"]
        assert mine == adams and rule["name"] == "open"
        assert rule["sha256"] == weights.digest(rule["weights"])
    assert [STUDY.config(a).optimizer.weights for a in STILL] == ["open/ant", "open/multi"]
    assert len(STUDY.specs("laptop")) == 3 * 5 + 2 * 3


def test_nothing_stored_is_said_and_not_drawn(store):
    found = report.load(store=store, compute="never")
    assert report.headline(found).startswith("**No run of OPEN on the changing Ant is stored:")
    assert "Missing runs: " in report.overview(found)
    for name in ("on_change", "on_controls", "overview"):
        assert "nan" not in getattr(report, name)(found)
    for figure in drawn(found):
        assert not figure.axes and figure.findobj(Text)


def test_one_arm_alone_can_be_told(store):
    fill(store, ["open"])
    found = report.load(store=store, compute="never")
    words = report.headline(found)
    assert words.startswith("**On the changing Ant OPEN that its authors trained on the stationary")
    assert "four games" not in words and "default Adam" not in words
    assert "No claim of the report is decided here. Not every planned run is stored" in words
    absent = "No run is stored of Adam, default betas, Adam (OPEN authors', annealed) and OPEN ("
    assert absent in report.on_change(found)
    assert [bool(figure.axes) for figure in drawn(found)] == [True, False, True, True]


def test_the_other_arm_alone_needs_no_words_of_the_first(store):
    fill(store, ["open_multi"])
    words = report.headline(report.load(store=store, compute="never"))
    assert words.startswith("**On the changing Ant OPEN that its authors trained on four games")


def test_a_run_that_diverged_is_said_to_have(store):
    fill(store, ["adam"])
    for spec in STUDY.specs("laptop", ["open"]):
        stored_runs.keep(store, spec, 2000.0, diverged_after=None if spec.seed else 40)
    found = report.load(store=store, compute="never")
    assert "of which 1 has diverged" in report.headline(found)


def test_all_runs_are_told_beside_adam(store):
    fill(store, levels={"adam": 4000.0, "open": 3000.0, "open_multi": 5000.0, "open_still": 4500.0})
    found = report.load(store=store, compute="never")
    words = report.headline(found)
    assert "Not every planned run" not in words
    ant, games, adam, annealed = words.partition("** ")[0].split("; ")
    assert "The final return of OPEN (from Ant) minus default Adam's (5 seeds, seed" in words
    each = re.search(r"\(seed by seed ([^;]*);", words)[1]
    assert len(re.findall(r"[+-][\d,]+", each)) == 5 and each.count("-1,") == 5
    assert words.count("worse: the interval") == words.count("better: the interval") == 1
    assert adam.startswith("default Adam ends at 4,0")
    assert annealed.startswith("the OPEN authors' annealed Adam ends at 2,0")
    assert "below default Adam on 5 of the 5 seeds that both have, and none of 5 seeds" in ant
    assert "games ends at 5,0" in games and "below default Adam on none of the 5 seeds" in games
    gains = [line for line in report.on_change(found).splitlines() if line.startswith("- ")]
    better = ["better" in line for line in gains]
    assert better == [False, False, True, True, True] and all("worse" in x for x in gains[:2])
    assert "in multiples of default Adam's: Adam (OPEN" in report.on_change(found)
    assert "same first networks; interquartile mean over the seeds" in report.on_controls(found)
    assert "first networks and meets the same changes; interquartile mean" in report.on_change(
        found
    )
    still = [line for line in report.on_controls(found).splitlines() if line.startswith("- ")]
    assert len(still) == 2 and "better" in still[0]
    overview = report.overview(found)
    assert "open/ant" in overview and "open/multi" in overview
    for figure in drawn(found):
        assert figure.axes and figure._repr_png_()


def test_the_prose_says_what_the_study_does():
    mine = STUDY.config("open")

    def differing(agent, world):
        theirs = PPOConfig.from_dict({**agent, "world": world})
        names = [field.name for field in dataclasses.fields(PPOConfig)]
        return {name for name in names if getattr(mine, name) != getattr(theirs, name)}

    here = {"drift", "optimizer"}
    on_ant = differing(open_agent.BRAX, "ant") - here
    settings = {"value_clip", "standardize_minibatches", "bootstrap_truncation"}
    assert on_ant == {"backend", *settings}
    assert "(*positional*, here *spring*), clips the values as well, standardises" in PROSE
    assert (open_agent.BRAX["backend"], mine.backend) == ("positional", "spring")
    assert mine.value_clip is None and not mine.standardize_minibatches
    assert mine.bootstrap_truncation and "takes a time limit for an end" in PROSE
    on_games = differing(open_agent.MINATAR, "breakout") - here
    assert {"num_envs", "rollout_length", "minibatches", "activation"} <= on_games
    assert "The one for games has other networks and batches too." in PROSE
    (command,) = re.findall(
        r"^loptrl execute notebooks/13_open_change.md (.*)$", NOTEBOOK.read_text(), re.M
    )
    parameters = book.parameters(NOTEBOOK)
    for pair in re.findall(r"-p (\S+)", command):
        name, _, value = pair.partition("=")
        assert parameters[name].parse(value) is not None


@pytest.mark.slow
def test_the_notebook_makes_a_page(tmp_path, monkeypatch, library_path):
    """At smoke size from stored runs; without weights nothing is trained."""
    monkeypatch.setenv("LOPTRL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LOPTRL_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "data" / "results", tmp_path / "scratch")
    for study, arms in (
        (adam_collapse.STUDY, ["adam", "stationary"]),
        (STUDY, ["open", "adam_annealed"]),
    ):
        for spec in study.specs("smoke", arms, 1, env_steps=400):
            stored_runs.keep(store, spec, 2000.0)
    given = {"budget": "smoke", "env_steps": "400", "seeds": "1", "compute": "missing"}
    page = book.execute(NOTEBOOK, given, to="tiny", output_dir=tmp_path / "pages")
    text = page.read_text(encoding="utf-8")
    assert text.count('"image/png"') == 4 and str(tmp_path) not in text
    assert "**On the changing Ant OPEN that its authors" in text
