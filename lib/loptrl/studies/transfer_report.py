"""Study 3 in words: the verdicts on C7 and C8, and every sentence that holds a number."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from loptrl import stats, verdicts
from loptrl.studies import adam_collapse, optim4rl_l2, optim4rl_steps
from loptrl.studies import changing_ant_report as shared
from loptrl.studies.changing_ant_evidence import Compute, JointEvidence
from loptrl.studies.changing_ant_evidence import load as load_joint
from loptrl.studies.transfer import STILL, STUDY
from loptrl.studies.words import estimate, paragraphs
from loptrl.style import format_steps
from loptrl.verdicts import Verdict

__all__ = [
    "ARMS",
    "AUTHORS",
    "CHANGING",
    "CONTROLS",
    "CURRICULUM",
    "DIRECT",
    "GRAPH_5",
    "INSIDE",
    "SAID",
    "TRAINED",
    "claims",
    "headline",
    "load",
    "on_authors",
    "on_curriculum",
    "on_transfer",
    "overview",
]

GRAPH_5 = ("adam", "transferred")
AUTHORS = ("published", "published_1", "published_22")
CURRICULUM = ("drift", "transferred", "curriculum")
DIRECT = ("drift", "drift_long")
TRAINED = ("transferred", *DIRECT, "curriculum", *AUTHORS)
INSIDE = ("adam", "transferred", "published", "curriculum")
CONTROLS = ("stationary", *STILL.values())
CHANGING = ("adam", *(name for name in STUDY.arms if name not in CONTROLS), *DIRECT)
ARMS = (*CHANGING, *CONTROLS)

SAID = {
    "C7": (
        "The report: an optimizer meta-trained on the stationary Ant is good at first on the "
        "changing one, and collapses later."
    ),
    "C8": "The report: a curriculum, first without and then with change, is essential.",
}
_SHORT = {
    "C7": "a good start, then a collapse",
    "C8": "the curriculum beats direct and transferred",
}
_JUDGED = {"ours": "transferred", "the authors'": "published"}


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    **options: Any,
) -> JointEvidence:
    """The runs of the study, and those of studies 1 and 2 beside them.

    These are default Adam on both Ants, and Optim4RL meta-trained under change without a
    curriculum (`changing_ant_evidence.load`).

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    borrowed = [
        (adam_collapse.STUDY, ("adam", "stationary")),
        (optim4rl_l2.STUDY, DIRECT),
    ]
    return load_joint(STUDY, borrowed, budget, env_steps, seeds, compute, **options)


@functools.lru_cache(maxsize=4)
def claims(evidence: JointEvidence) -> Mapping[str, Verdict]:
    """The verdicts of C7 and C8; C7 for our weights and for those of the source's authors."""
    found = {f"C7 ({whose})": _c7(evidence, arm) for whose, arm in _JUDGED.items()}
    return {**found, "C8": _c8(evidence)}


def _c7(evidence: JointEvidence, arm: str) -> Verdict:
    few = shared.too_few(evidence, "C7", "adam", arm)
    if few:
        return few
    steps, adam = evidence.returns("adam")
    return verdicts.c7(
        steps,
        adam,
        evidence.returns(arm)[1],
        random_return=evidence.random_return,
        rng=shared.rng(),
    )


def _c8(evidence: JointEvidence) -> Verdict:
    arms = ("curriculum", "drift", "transferred")
    few = shared.too_few(evidence, "C8", *arms)
    if few:
        return few
    returns = [evidence.returns(arm)[1] for arm in arms]
    verdict = verdicts.c8(evidence.grid("curriculum"), *returns, rng=shared.rng())
    found = {arm: shared.gain(evidence, "curriculum", arm) for arm in arms[1:]}
    words = [f"minus {evidence.all_arms[arm].label} {gain}" for arm, gain in found.items() if gain]
    verdict = verdict.noting(f"The curriculum {'; '.join(words)}." if words else "")
    below = any(shared.is_below(evidence, "curriculum", arm) for arm in found)
    if verdict.status != "contradicted" and below:
        verdict = verdict.noting("By the seeds' pairs C8 would be contradicted.")
    return verdict


def headline(evidence: JointEvidence) -> str:
    """The answer in one bold sentence, the verdicts in a list, and whether runs are missing."""
    if not evidence.has("transferred"):
        answer = (
            "**No run of Optim4RL meta-trained here on the stationary Ant is stored: nothing can "
            "be said yet.**"
        )
    else:
        who = {
            "transferred": "Optim4RL that was meta-trained where nothing changes",
            "adam": "default Adam",
        }
        beside = dict.fromkeys(set(who) - {"adam"}, ("adam", who["adam"]))
        parts = [
            f"{who[arm]} returns {_early(evidence, arm)} after a quarter of the run, "
            f"{shared.ends(evidence, arm, beside.get(arm))}"
            for arm in evidence.present(*who)
        ]
        answer = f"**On the changing Ant {'; '.join(parts)}.**{_beyond_untrained(evidence)}"
    decided = shared.statuses(claims(evidence), _SHORT, incomplete=evidence.incomplete)
    return f"{answer}\n\n{decided}"


def _beyond_untrained(evidence: JointEvidence) -> str:
    """How many sets of trained weights are shown to end above the weights that nobody trained."""
    found = [shared.pairs(evidence, arm, "untrained") for arm in TRAINED]
    differences = [
        stats.difference_ci(*both, rng=shared.rng(), paired=True)
        for both in found
        if both[0].size >= verdicts.MINIMUM_SEEDS
    ]
    if not differences:
        return ""
    above = sum(difference.low > 0 for difference in differences)
    return (
        f" Of the {len(differences)} sets of trained weights on this page {above or 'none'} "
        f"{'is' if above < 2 else 'are'} shown to end above random ones, seed against seed."
    )


def _early(evidence: JointEvidence, arm: str) -> str:
    values = stats.around(*evidence.returns(arm), verdicts.QUARTER)
    return estimate(values)


def on_transfer(evidence: JointEvidence) -> str:
    """What graph 5 shows, and the verdicts of C7."""
    lines = [_at_a_quarter(evidence, GRAPH_5), shared.finals(evidence, GRAPH_5)]
    return paragraphs([*lines, *shared.decided(claims(evidence), SAID, "C7")])


def on_authors(evidence: JointEvidence) -> str:
    """What the weights of the source's authors do, and those that nobody trained."""
    arms = (*AUTHORS, "untrained")
    words = [_at_a_quarter(evidence, arms), shared.finals(evidence, arms), _gained(evidence)]
    return paragraphs([*words, _still(evidence)])


def _still(evidence: JointEvidence) -> str:
    """How the weights do where nothing changes, and ours beside the authors' best there."""
    if not evidence.present(*STILL.values()):
        return ""
    words = (
        f"On the stationary Ant, which the next graph shows: {shared.finals(evidence, CONTROLS)}"
    )
    gains = {STILL[a]: shared.gain(evidence, STILL["transferred"], STILL[a]) for a in AUTHORS}
    known = [arm for arm, gain in gains.items() if gain]
    if len(known) < len(AUTHORS):
        return words
    best = max(known, key=lambda arm: shared.final(evidence, arm).value)
    label = evidence.all_arms[best].label
    return f"{words} Ours minus the authors' best there, {label} {gains[best]}."


def _gained(evidence: JointEvidence) -> str:
    """What meta-training gained over the random weights it starts from, and over Adam."""
    arms = (*TRAINED, "untrained")
    return paragraphs(
        [
            shared.gains(evidence, TRAINED, "untrained", "with untrained weights"),
            shared.gains(evidence, arms, "adam", "with default Adam"),
            shared.multiples(evidence, TRAINED, "untrained", "the untrained rule's"),
            optim4rl_steps.in_runs(evidence, arms),
        ]
    )


def on_curriculum(evidence: JointEvidence) -> str:
    """How the curriculum compares with direct meta-training and with transfer; C8."""
    return paragraphs(
        [shared.finals(evidence, CURRICULUM), *shared.decided(claims(evidence), SAID, "C8")]
    )


def overview(evidence: JointEvidence) -> str:
    """One row an arm, what is missing, and where the weights come from."""
    return shared.overview(evidence, ARMS)


def _at_a_quarter(evidence: JointEvidence, arms: tuple[str, ...]) -> str:
    present = evidence.present(*arms)
    if not present:
        return ""
    place = format_steps(verdicts.QUARTER * evidence.length(present[0]))
    parts = [
        f"{evidence.all_arms[arm].label} "
        f"{estimate(stats.around(*evidence.returns(arm), verdicts.QUARTER))}"
        for arm in present
    ]
    return f"Return around {place} env steps: {'; '.join(parts)}."
