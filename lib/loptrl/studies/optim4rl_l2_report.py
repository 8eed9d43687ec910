"""Study 2 in words: the verdicts on C5, C6 and C14, and every sentence that holds a number."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from loptrl import verdicts
from loptrl.studies import adam_collapse, optim4rl_steps
from loptrl.studies import changing_ant_report as shared
from loptrl.studies.changing_ant_evidence import Compute, JointEvidence
from loptrl.studies.changing_ant_evidence import load as load_joint
from loptrl.studies.optim4rl_l2 import STUDY
from loptrl.studies.words import paragraphs
from loptrl.verdicts import Verdict

__all__ = [
    "ARMS",
    "GRAPH_3",
    "GRAPH_4",
    "OTHERS",
    "SAID",
    "TRAININGS",
    "claims",
    "headline",
    "load",
    "on_direct",
    "on_inside",
    "on_l2",
    "on_sizes",
    "overview",
]

GRAPH_3 = ("adam", "drift")
GRAPH_4 = ("drift", "drift_l2")
TRAININGS = ("drift_long", "no_pipeline", "reduced")
_MINUS_DIRECT = {
    "drift_long": "after 1e8 env steps of meta-training minus that after 3e7",
    "no_pipeline": "without the pipeline minus that with it",
    "reduced": "at the reduced sizes minus that at the full ones",
}
OTHERS = (*TRAININGS, "small_step")
ARMS = ("adam", *STUDY.arms)

SAID = {
    "C5": "The report: Optim4RL meta-trained under change performs poorly and collapses.",
    "C6": "The report: with L2 it recovers now and then, and still does not escape the collapse.",
    "C14": (
        "The report: too little memory, hence a smaller batch and fewer inner updates, probably "
        "made it so poor."
    ),
}
_SHORT = {
    "C5": "poor, and collapses more than Adam",
    "C6": "L2 brings a temporary recovery only",
    "C14": "the reduced sizes explain it",
}


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    **options: Any,
) -> JointEvidence:
    """The runs of the study, and those of default Adam in study 1 (`changing_ant_evidence.load`).

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    borrowed = [(adam_collapse.STUDY, ("adam",))]
    return load_joint(STUDY, borrowed, budget, env_steps, seeds, compute, **options)


@functools.lru_cache(maxsize=4)
def claims(evidence: JointEvidence) -> Mapping[str, Verdict]:
    """The verdicts of C5, C6 and C14, by claim."""
    return {"C5": _c5(evidence), "C6": _c6(evidence), "C14": _c14(evidence)}


def _c5(evidence: JointEvidence) -> Verdict:
    few = shared.too_few(evidence, "C5", "adam", "drift")
    if few:
        return few
    verdict = verdicts.c5(
        *_curves(evidence, "adam", "drift"),
        random_return=evidence.random_return,
        rng=shared.rng(),
    )
    gain = shared.gain(evidence, "drift", "adam")
    verdict = verdict.noting(f"Final minus Adam's {gain}." if gain else "")
    if verdict.status == "contradicted" and shared.is_below(evidence, "drift", "adam"):
        verdict = verdict.noting("By the seeds' pairs C5 would not be contradicted.")
    return verdict


def _c6(evidence: JointEvidence) -> Verdict:
    few = shared.too_few(evidence, "C6", "adam", "drift", "drift_l2")
    return few or verdicts.c6(
        *_curves(evidence, "adam", "drift", "drift_l2"),
        random_return=evidence.random_return,
        rng=shared.rng(),
    )


def _c14(evidence: JointEvidence) -> Verdict:
    few = shared.too_few(evidence, "C14", "adam", "drift", "reduced")
    return few or verdicts.c14(*_curves(evidence, "adam", "drift", "reduced"), rng=shared.rng())


def _curves(evidence: JointEvidence, *arms: str) -> list[np.ndarray]:
    """Env steps [num_rows], which all arms share, and the returns of each arm."""
    return [evidence.grid(arms[0]), *(evidence.returns(arm)[1] for arm in arms)]


def headline(evidence: JointEvidence) -> str:
    """The answer in one bold sentence, the verdicts in a list, and whether runs are missing."""
    if not evidence.has("drift"):
        answer = (
            "**No run of Optim4RL meta-trained on the changing Ant is stored: nothing can be said "
            "yet.**"
        )
    else:
        who = {
            "drift": "Optim4RL that was meta-trained there",
            "drift_l2": "with L2 in meta-training it",
            "adam": "default Adam",
        }
        beside = dict.fromkeys(set(who) - {"adam"}, ("adam", who["adam"]))
        parts = [
            f"{who[arm]} {shared.ends(evidence, arm, beside.get(arm))}"
            for arm in evidence.present(*who)
        ]
        answer = f"**On the changing Ant {'; '.join(parts)}.**"
        if longer := shared.gain(evidence, "drift_long", "drift"):
            answer += (
                " Final return after 1e8 env steps of meta-training, the official length, minus "
                f"that after 3e7 {longer}."
            )
    decided = shared.statuses(claims(evidence), _SHORT, incomplete=evidence.incomplete)
    return f"{answer}\n\n{decided}"


def on_direct(evidence: JointEvidence) -> str:
    """What graph 3 shows, the verdict of C5, and every arm beside default Adam, seed by seed."""
    beside = shared.gains(evidence, STUDY.arms, "adam", "with default Adam")
    return paragraphs([_section(evidence, GRAPH_3, "C5"), beside])


def on_l2(evidence: JointEvidence) -> str:
    """What graph 4 shows, and the verdict of C6."""
    return _section(evidence, GRAPH_4, "C6")


def on_sizes(evidence: JointEvidence) -> str:
    """What other meta-trainings give, the verdict of C14, and the same weights in shorter steps."""
    verdict = _section(evidence, ("drift", *TRAININGS), "C14")
    told = [
        f"Final return {words} {gain}."
        for arm, words in _MINUS_DIRECT.items()
        if (gain := shared.gain(evidence, arm, "drift"))
    ]
    shorter = shared.finals(evidence, ("small_step",))
    gain = shared.gain(evidence, "small_step", "drift")
    if gain:
        shorter += f" With a sixth of the step minus with the whole {gain}."
    return paragraphs([verdict, " ".join(told), shorter])


def on_inside(evidence: JointEvidence) -> str:
    """How long each arm's updates are and how far they move the policy, and the rules' steps."""
    return paragraphs(
        [
            shared.multiples(evidence, STUDY.arms, "adam", "Adam's"),
            shared.multiples(evidence, STUDY.arms, "adam", "Adam's", "approx_kl"),
            optim4rl_steps.in_runs(evidence, STUDY.arms),
        ]
    )


def overview(evidence: JointEvidence) -> str:
    """One row an arm, what is missing, and where the weights come from."""
    return shared.overview(evidence, ARMS)


def _section(evidence: JointEvidence, arms: tuple[str, ...], claim: str) -> str:
    return paragraphs(
        [shared.finals(evidence, arms), *shared.decided(claims(evidence), SAID, claim)]
    )
