"""The page of answers: every page of evidence, every claim, and the verdicts of the pages."""

from __future__ import annotations

import re

import numpy as np
import pytest

import stored_runs
from loptrl import studies
from loptrl.paths import repo_root
from loptrl.ppo.config import PPOConfig
from loptrl.studies import (
    adam_collapse,
    answers,
    beside_adam,
    changing_ant_report,
    open_change,
    optim4rl_l2,
    optim4rl_l2_report,
    step_size,
    transfer,
)

NOTEBOOKS = repo_root() / "notebooks"
TEXT = (NOTEBOOKS / "answers.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found():
    return answers.load()


def test_every_page_of_evidence_has_its_place():
    toc = (repo_root() / "_toc.yml").read_text(encoding="utf-8")
    evidence = toc[toc.index("caption: Evidence") : toc.index("caption: Methods")]
    chapters = re.findall(r"executed/(\w+)", evidence)
    # The first chapter is arithmetic, without a claim of the report.
    assert chapters[1:] == list(answers.PAGES)
    assert re.findall(r'answers\.answer\(evidence, "(\w+)"\)', TEXT) == chapters[1:]
    assert re.findall(r"^Graphs and numbers: \{doc\}`(\w+)`", TEXT, re.M) == chapters[1:]
    pages = [(NOTEBOOKS / f"{page}.md").read_text(encoding="utf-8") for page in chapters[1:]]
    titles = [re.search(r"^# (.*)$", page, re.M).group(1) for page in pages]
    assert re.findall(r"^## (.*)$", TEXT, re.M) == [*titles, "Not yet"]


@pytest.mark.parametrize("page", answers.PAGES)
def test_a_page_s_answer_is_its_headline_and_its_verdicts(found, page):
    report, evidence = answers.PAGES[page], found[page]
    words = answers.answer(found, page)
    assert words.startswith("**") and words.partition("\n\n")[0] in report.headline(evidence)
    claims = report.claims(evidence) if hasattr(report, "claims") else {}
    listed = re.findall(r"^- \*\*(\w+)\.\*\* (.*)$", words, re.M)
    assert [claim for claim, _ in listed] == list(dict.fromkeys(v.claim for v in claims.values()))
    for claim, line in listed:
        statuses = [v.status for v in claims.values() if v.claim == claim]
        assert re.findall(r"\*\*(\w+)\*\*\.", line) == statuses
        assert line.startswith(report.SAID[claim])


def test_the_counts_are_those_of_the_lines(found):
    lines = " ".join(answers.answer(found, page) for page in answers.PAGES)
    listed = re.findall(r"\*\*(supported|contradicted|undecided)\*\*", lines)
    first = answers.count(found)
    assert f"Of {len(listed)} verdicts" in first
    for status in ("supported", "contradicted", "undecided"):
        assert f"{listed.count(status)} {status}" in first


def test_nothing_stored_leaves_every_claim_undecided(store):
    nothing = answers.load(store)
    assert "0 supported, 0 contradicted" in answers.count(nothing)
    words = answers.answer(nothing, "02_optim4rl_l2")
    assert words.count("**undecided**") == len(optim4rl_l2_report.SAID)


def test_a_claim_with_two_verdicts_says_which_is_which(found):
    claims = optim4rl_l2_report.claims(found["02_optim4rl_l2"])
    two = {"C5 (one)": claims["C5"], "C5 (other)": claims["C5"]}
    words = changing_ant_report.statuses_of(two, "C5")
    assert words.startswith("Here, one: **") and " Here, other: **" in words
    assert claims["C5"].reason not in words


def under_change(store):
    evidence = answers.load(store)
    return f"{answers.lead(evidence)} {answers.beside_others(evidence)}"


def keep_levels(store, study, arms, levels):
    for spec in study.specs("laptop", arms, seeds=3):
        stored_runs.keep(store, spec, levels[spec.arm] + 100.0 * spec.seed)


def test_a_rule_for_another_agent_stands_beside_the_others_there(store):
    keep_levels(store, adam_collapse.STUDY, ["adam"], {"adam": 9000.0})
    assert "In another agent" not in under_change(store)
    levels = {"drift_raw_1e-3": 5000.0, "adam_raw": 4000.0, "untrained_raw_1.5e-3": 0.0}
    levels |= {"drift_raw": 2000.0, "adam_raw_3e-3": 3000.0}
    keep_levels(store, step_size.STUDY, list(levels), levels)
    words = under_change(store)
    ends = words.partition("trained in such an agent with a meta learning rate of 1e-3 ends ")[2]
    assert ends.startswith("above Adam there (difference 1,0")
    assert ", above Adam with ten times the step size (difference 2,0" in ends
    assert ", above untrained weights with steps as long (difference 5,0" in ends
    assert " and below default Adam in the first agent (difference -4,0" in ends
    assert "; by the mean return over the whole run it is above Adam there (difference " in ends
    assert ". Trained so with 1e-4 it ends below Adam there (difference -2,0" in ends
    assert ends.count(", 3 seeds)") == 6


def test_trained_rules_are_compared_with_adam_seed_by_seed(store):
    """One rule always above, one always below, one on either side; random weights do not count."""
    words = under_change(store)
    assert "Optim4RL has fewer than 3 seeds there beside default Adam's." in words
    levels = {"adam": 4000.0, "drift": 4500.0, "drift_l2": 3500.0, "untrained": 1000.0}
    keep_levels(store, adam_collapse.STUDY, ["adam"], levels)
    keep_levels(store, optim4rl_l2.STUDY, ["drift", "drift_l2"], levels)
    keep_levels(store, transfer.STUDY, ["untrained"], levels)
    for spec in transfer.STUDY.specs("laptop", ["curriculum"], seeds=3):
        stored_runs.keep(store, spec, 5000.0 if spec.seed else 3000.0)
    words = under_change(store)
    assert "Of 3 sets of trained weights 1 is shown to end above default Adam" in words
    assert (
        "Optim4RL: 3 sets, −12 % to +12 % in final return, 1 above, 1 below, 1 undecided." in words
    )
    assert "with the same seed: 4 of 9 of Optim4RL, beside" in words and "sixth" not in words
    assert "whole run 1 is above and 1 below ({doc}`under_change`)." in words
    assert "OPEN has fewer than 3 seeds there beside default Adam's. VeLO was not run" in words
    keep_levels(store, optim4rl_l2.STUDY, ["small_step"], {"small_step": 4200.0})
    words = under_change(store)
    assert "Of 3 sets" in words, "shorter steps are no other weights"
    assert "trained directly minus Adam's (3 seeds, seed against seed): 200 [" in words
    keep_levels(store, open_change.STUDY, ["open"], {"open": 3900.0})
    words = under_change(store)
    assert "Of 4 sets of trained weights" in words and "VeLO was not run under change." in words
    assert re.search("OPEN: 1 set, −[23] % in final return, none above, 1 below", words)
    assert "4 of 9 of Optim4RL and 3 of 3 of OPEN, beside the same few runs" in words
    assert "annealed" not in words
    keep_levels(store, open_change.STUDY, ["adam_annealed"], {"adam_annealed": 3700.0})
    words = under_change(store)
    assert "its authors' annealed Adam (3 seeds, seed against seed): 200 [" in words


def test_the_graph_has_a_row_a_set_highest_first_and_a_ring_a_seed(store):
    assert beside_adam.differences_figure(answers.load(store)).axes == []
    levels = {"adam": 4000.0, "drift": 3500.0, "drift_l2": 4500.0}
    keep_levels(store, adam_collapse.STUDY, ["adam"], levels)
    keep_levels(store, optim4rl_l2.STUDY, ["drift", "drift_l2"], levels)
    (axes,) = beside_adam.differences_figure(answers.load(store)).axes
    dots = [line for line in axes.get_lines() if line.get_label().startswith("Optim4RL")]
    at = [dot.get_xdata().item() for dot in dots]
    assert at == pytest.approx([500.0, -500.0], abs=1.0)
    assert dots[0].get_label() == optim4rl_l2.STUDY.arms["drift_l2"].label
    rings = [line.get_xdata() for line in axes.get_lines() if line.get_label() == "_seeds"]
    assert [ring.size for ring in rings] == [3, 3] and min(rings[0]) > 0 > max(rings[1])


def test_what_is_missing_is_counted_study_by_study(store):
    nothing = answers.not_yet(store)
    assert nothing.count(" of ") >= len(studies.NAMES)
    (planned,) = re.findall(r"OPEN on the changing Ant\* 21 of (\d+)", nothing)
    keep_levels(store, open_change.STUDY, ["open"], {"open": 1.0})
    assert f"OPEN on the changing Ant* 18 of {planned}" in answers.not_yet(store)


def test_velo_alone_meets_no_changes():
    """What the answer says of it."""
    configs = [
        study.config(arm)
        for study in map(studies.get, studies.NAMES)
        for arm in study.arms
        if study.weights_of(arm) != "unknown" and isinstance(study.config(arm), PPOConfig)
    ]
    assert {c.optimizer.name for c in configs if not c.drift} >= {"adam", "rmsprop", "open"}
    assert {c.optimizer.name for c in configs if c.drift} == {"adam", "optim4rl", "open"}


def test_what_is_kept_at_a_change_is_after_over_before():
    """Changes at 6M to 18M env steps count, those at 2M and 4M do not: they halve nothing here."""
    steps = np.arange(0, 20_000_001, 400_000)
    regime = (steps - 1) // adam_collapse.PERIOD
    since = (steps - 1) % adam_collapse.PERIOD
    late = (regime >= 3) & (since < 800_000)
    returns = np.where(late, 300.0, 400.0) * np.array([[1.0], [2.0]])
    np.testing.assert_allclose(beside_adam.kept(steps, returns), 0.75)
    np.testing.assert_allclose(beside_adam.whole(steps, returns), returns.mean(axis=1))


def test_every_measure_has_its_count_and_its_column(store):
    assert beside_adam.measures_words(answers.load(store)) == ""
    assert beside_adam.measures_table(answers.load(store)) == ""
    assert beside_adam.steps_words(answers.load(store)) == ""
    keep_levels(store, adam_collapse.STUDY, ["adam"], {"adam": 4000.0})
    keep_levels(store, optim4rl_l2.STUDY, ["drift"], {"drift": 3500.0})
    found = answers.load(store)
    words = beside_adam.measures_words(found)
    assert "Of 1 set of trained weights beside default Adam on the changing Ant, by the" in words
    assert "final return none above and 1 below; by the mean return over" in words
    assert "Default Adam keeps 1.0" in words
    (header, _, row) = beside_adam.measures_table(found).splitlines()
    assert header.count("|") == row.count("|") == len(beside_adam.MEASURES) + 3
    assert "Optim4RL (direct) | 3 | -500 [" in row.replace("-499", "-500").replace("-501", "-500")
    assert "Of the 1 set of Optim4RL none move a weight by α" in beside_adam.steps_words(found)
