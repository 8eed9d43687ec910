"""OPEN on the changing Ant in words: every sentence that holds a number; no claim is decided."""

from __future__ import annotations

from typing import Any

from loptrl.studies import adam_collapse
from loptrl.studies import changing_ant_report as shared
from loptrl.studies.changing_ant_evidence import Compute, JointEvidence
from loptrl.studies.changing_ant_evidence import load as load_joint
from loptrl.studies.open_change import STILL, STUDY
from loptrl.studies.words import listed, paragraphs

__all__ = [
    "ARMS",
    "CHANGING",
    "CONTROLS",
    "headline",
    "load",
    "on_change",
    "on_controls",
    "overview",
]

_WHO = {
    "open": "OPEN that its authors trained on the stationary Ant",
    "open_multi": "OPEN that its authors trained on four games",
}
_ADAMS = {"adam": "default Adam", "adam_annealed": "the OPEN authors' annealed Adam"}
CHANGING = (*_ADAMS, *_WHO)
CONTROLS = ("stationary", *STILL.values())
ARMS = (*CHANGING, *CONTROLS)


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    **options: Any,
) -> JointEvidence:
    """The runs of the study, and default Adam's on both Ants (`changing_ant_evidence.load`).

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    borrowed = [(adam_collapse.STUDY, ("adam", "stationary"))]
    return load_joint(STUDY, borrowed, budget, env_steps, seeds, compute, **options)


def headline(evidence: JointEvidence) -> str:
    """The answer in one bold sentence, and whether runs are missing."""
    present = evidence.present(*_WHO)
    if not present:
        answer = "**No run of OPEN on the changing Ant is stored: nothing can be said yet.**"
    else:
        beside = dict.fromkeys(_WHO, ("adam", _ADAMS["adam"]))
        parts = [
            f"{words} {shared.ends(evidence, arm, beside.get(arm))}"
            for arm, words in {**_WHO, **_ADAMS}.items()
            if evidence.has(arm)
        ]
        gains = {arm: shared.gain(evidence, arm, "adam") for arm in present}
        paired = [
            f" The final return of {STUDY.arms[arm].label} minus default Adam's {gain} (seed by "
            f"seed {_each(evidence, arm)}; the interquartile mean of differences is not the "
            "difference of interquartile means)."
            for arm, gain in gains.items()
            if gain
        ]
        answer = f"**On the changing Ant {'; '.join(parts)}.**{''.join(paired)}"
    missing = shared.statuses({}, {}, incomplete=evidence.incomplete)
    return paragraphs([answer, f"No claim of the report is decided here. {missing}".rstrip()])


def _each(evidence: JointEvidence, arm: str) -> str:
    mine, theirs = shared.pairs(evidence, arm, "adam")
    return listed([f"{difference:+,.0f}" for difference in mine - theirs])


def on_change(evidence: JointEvidence) -> str:
    """The final returns under change, beside Adam seed by seed, and how long the steps are."""
    return paragraphs(
        [
            shared.finals(evidence, CHANGING),
            shared.gains(evidence, CHANGING[1:], "adam", "with default Adam"),
            shared.gains(evidence, _WHO, "adam_annealed", "with the annealed Adam"),
            shared.multiples(evidence, CHANGING[1:], "adam", "default Adam's"),
            shared.multiples(evidence, CHANGING[1:], "adam", "default Adam's", "approx_kl"),
        ]
    )


def on_controls(evidence: JointEvidence) -> str:
    """The final returns of the same weights where nothing changes, beside Adam's there."""
    return paragraphs(
        [
            shared.finals(evidence, CONTROLS),
            shared.gains(evidence, STILL.values(), "stationary", "with default Adam there"),
        ]
    )


def overview(evidence: JointEvidence) -> str:
    """One row an arm, what is missing, and where the weights come from."""
    return shared.overview(evidence, ARMS)
