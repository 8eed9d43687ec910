"""Step sizes on the changing Ant in words: every sentence that holds a number; no claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from loptrl import stats, status_page
from loptrl.studies import (
    adam_collapse,
    open_change,
    optim4rl_l2,
    optim4rl_steps,
    physics_path,
    transfer,
)
from loptrl.studies import changing_ant_report as shared
from loptrl.studies.beside_adam import whole
from loptrl.studies.changing_ant_evidence import Compute, JointEvidence
from loptrl.studies.changing_ant_evidence import load as load_joint
from loptrl.studies.step_size import STUDY
from loptrl.studies.words import change, estimate, listed, paragraphs, plural
from loptrl.verdicts import MINIMUM_SEEDS

__all__ = [
    "ADAM",
    "AGENTS",
    "AGENT_ARMS",
    "ARMS",
    "INSIDE",
    "LONGER",
    "OPEN",
    "OPTIM4RL",
    "RAW",
    "WHO",
    "headline",
    "load",
    "on_agents",
    "on_steps",
    "overview",
    "placed",
    "raw_words",
]

ADAM = {"adam_1e-4": "1e-4", "adam": "3e-4", "adam_1e-3": "1e-3"}
"""Arms of Adam with its default betas -> their step size."""

OPTIM4RL = (*transfer.STILL, "curriculum", *optim4rl_l2.STUDY.arms, *physics_path.STUDY.arms)
"""Arms of Optim4RL with the agent of the other studies."""

OPEN = ("open", "open_multi", "adam_annealed")
WHO = {
    "adam": "Adam",
    "published": "Optim4RL, report's authors' weights",
    "untrained": "Optim4RL, untrained",
    "drift": "Optim4RL, trained in this agent",
    "fast": "Optim4RL, trained in this agent, meta learning rate 1e-3",
    "untrained_long": "Optim4RL, untrained, five times the step",
    "adam_1e-3": "Adam, 1e-3",
    "adam_3e-3": "Adam, 3e-3",
}
"""Optimizers that are compared in several agents -> their words."""

LONGER = ("untrained_long", "adam_1e-3", "adam_3e-3")
"""Controls, by a name in `WHO`: no rule was trained for them, their steps are longer."""

_FOUR = ("adam", "published", "untrained", "drift")
AGENTS: Mapping[str, Mapping[str, str]] = {
    "with the gradient clip": {name: name for name in _FOUR},
    "without the clip": {"adam": "no_gradient_clip", "published": "published_unclipped"},
    "without the clip, raw rewards": {
        **{name: f"{name}_raw" for name in _FOUR},
        "fast": "drift_raw_1e-3",
        "untrained_long": "untrained_raw_1.5e-3",
        "adam_1e-3": "adam_raw_1e-3",
        "adam_3e-3": "adam_raw_3e-3",
    },
}
"""What the agent does with its gradients -> its arms, by a name in `WHO`."""

RAW = AGENTS["without the clip, raw rewards"]
AGENT_ARMS = tuple(arm for arms in AGENTS.values() for arm in arms.values())
INSIDE = ("adam", *(arm for name, arm in RAW.items() if name not in LONGER))
ARMS = tuple(dict.fromkeys((*ADAM, *OPTIM4RL, *OPEN, *AGENT_ARMS)))

_ROOT = sum(optim4rl_steps.network_weights()) ** 0.5


def load(
    budget: str = "laptop",
    env_steps: int = 0,
    seeds: int = 0,
    compute: Compute = "auto",
    **options: Any,
) -> JointEvidence:
    """The runs of the study, and those of the other studies under change beside them.

    These are default Adam, with and without the gradient clip, every set of weights of Optim4RL,
    OPEN and its authors' Adam (`changing_ant_evidence.load`).

    Raises:
        LoptrlError: an unknown budget or a value out of its range.
        DamagedRun: a stored run is damaged and nothing may be trained.
        Stopped: training was stopped; the same call goes on.
    """
    borrowed = [
        (adam_collapse.STUDY, ("adam", "no_gradient_clip")),
        (transfer.STUDY, (*transfer.STILL, "curriculum")),
        (optim4rl_l2.STUDY, tuple(optim4rl_l2.STUDY.arms)),
        (physics_path.STUDY, tuple(physics_path.STUDY.arms)),
        (open_change.STUDY, OPEN),
    ]
    return load_joint(STUDY, borrowed, budget, env_steps, seeds, compute, **options)


def placed(
    evidence: JointEvidence, *arms: str, adam: str = "adam"
) -> list[tuple[str, float, stats.Estimate]]:
    """Where arms stand: the change of a weight in an update, and the end beside Adam's.

    Args:
        evidence: the runs.
        arms: those without `MINIMUM_SEEDS` beside Adam's are left out, and those whose runs all
            diverged.
        adam: the arm of Adam to compare with.

    Returns:
        The arm, the root mean square change of a weight in an update (`optim4rl_steps.moved`, IQM
        over seeds), and the IQM of the paired differences of final returns with its 95 % interval.
    """
    found = []
    for arm in arms:
        mine, theirs = shared.pairs(evidence, arm, adam)
        if mine.size < MINIMUM_SEEDS or not evidence.whole(arm).runs:
            continue
        difference = stats.difference_ci(mine, theirs, rng=shared.rng(), paired=True)
        found.append((arm, float(stats.iqm(optim4rl_steps.moved(evidence, arm))), difference))
    return found


def headline(evidence: JointEvidence) -> str:
    """The answer in one bold sentence, and whether runs are missing."""
    adams = [
        f"{estimate(stats.final(*evidence.returns(arm)))} with a step size of {rate} "
        f"({_same_seeds(evidence, arm)})"
        for arm, rate in ADAM.items()
        if evidence.has(arm)
    ]
    if adams:
        answer = f"**On the changing Ant Adam ends at {listed(adams)}{_beside(evidence)}.**"
    else:
        answer = "**No run of Adam on the changing Ant is stored: nothing can be said yet.**"
    answer = f"{answer} {raw_words(evidence)}".rstrip()
    missing = shared.statuses({}, {}, incomplete=evidence.incomplete)
    return paragraphs([answer, f"No claim of the report is decided here. {missing}".rstrip()])


def _same_seeds(evidence: JointEvidence, arm: str) -> str:
    """How many seeds an arm of Adam has, and what the default comes to on these."""
    if arm == "adam":
        return f"the default, {evidence.seeds(arm)} {plural('seed', evidence.seeds(arm))}"
    mine, default = shared.pairs(evidence, arm, "adam")
    words = f"{mine.size} {plural('seed', mine.size)}"
    if not mine.size:
        return words
    return f"{words}, on which the default ends at {stats.iqm(default):,.0f}"


def _beside(evidence: JointEvidence) -> str:
    """How many of Optim4RL's weights and step sizes end above default Adam, and below it."""
    known = placed(evidence, *OPTIM4RL)
    if not known:
        return ""
    above = sum(difference.low > 0 for _, _, difference in known)
    below = sum(difference.high < 0 for _, _, difference in known)
    lengths = [length for _, length, _ in known]
    return (
        f"; of {len(known)} {plural('arm', len(known))} of Optim4RL, which differ in their weights "
        "or their step size and move a weight by "
        f"{min(lengths):.1e} to {max(lengths):.1e} in an update, {above or 'none'} "
        f"{'is' if above < 2 else 'are'} shown to end above default Adam, seed against seed, and "
        f"{below or 'none'} below"
    )


def raw_words(evidence: JointEvidence) -> str:
    """How the rule that was trained in the raw agent ends there beside the others."""
    mine = RAW["fast"]
    gains = {
        WHO[name]: gain
        for name in ("adam", "untrained")
        if (gain := shared.gain(evidence, mine, RAW[name]))
    }
    if not gains:
        return ""
    beside = "; ".join(f"that of {words} {gain}" for words, gain in gains.items())
    return (
        "In an agent without the gradient clip, on raw rewards, the final return of Optim4RL that "
        f"was trained in such an agent (meta learning rate 1e-3) is "
        f"{estimate(stats.final(*evidence.returns(mine)))}; minus {beside}."
        f"{_longer(evidence)}{_first_agent(evidence)}{_other_readings(evidence)}"
    )


def _other_readings(evidence: JointEvidence) -> str:
    """The same rule by the mean return over the run, and the rule of a slower meta-training."""
    words = ""
    mine, theirs = shared.pairs(evidence, RAW["fast"], RAW["adam"], whole)
    if mine.size >= MINIMUM_SEEDS:
        words = (
            " By the mean return over the whole run, minus Adam's there: "
            f"{change(mine, theirs, paired=True)}."
        )
    if gain := shared.gain(evidence, RAW["drift"], RAW["adam"]):
        words += f" With a meta learning rate of 1e-4 the final return minus that of Adam {gain}."
    return words


def _first_agent(evidence: JointEvidence) -> str:
    """How the rule ends beside default Adam in the agent of the other pages."""
    gain = shared.gain(evidence, RAW["fast"], "adam")
    return f" Minus that of default Adam with the gradient clip {gain}." if gain else ""


def _longer(evidence: JointEvidence) -> str:
    """How much longer that rule's steps are, and whether a longer step alone does as much."""
    arms = [RAW[name] for name in ("fast", "untrained", "adam")]
    if not all(evidence.whole(arm).runs for arm in arms):
        return ""
    fast, untrained, adam = (stats.iqm(optim4rl_steps.moved(evidence, arm)) for arm in arms)
    words = (
        f" Its steps are {fast / untrained:.1f} times as long as those of untrained weights and "
        f"{fast / adam:.1f} times Adam's"
    )
    controls = [
        f"{WHO[name]} {gain}"
        for name in LONGER
        if (gain := shared.gain(evidence, RAW["fast"], RAW[name]))
    ]
    if not controls:
        return f"{words}: whether a longer step alone would do as much for these was not tried."
    return f"{words}. Minus arms that take longer steps and learned nothing: {'; '.join(controls)}."


def on_steps(evidence: JointEvidence) -> str:
    """Adam's final returns by step size, and one row for every arm with the gradient clip."""
    others = [arm for arm in ADAM if arm != "adam"]
    return paragraphs(
        [
            shared.finals(evidence, list(ADAM)),
            shared.gains(evidence, others, "adam", "with default Adam"),
            _table(evidence),
        ]
    )


def _table(evidence: JointEvidence) -> str:
    found = sorted(placed(evidence, *ADAM, *OPTIM4RL, *OPEN), key=lambda one: one[1])
    rows = [
        (
            evidence.all_arms[arm].label,
            str(shared.pairs(evidence, arm, "adam")[0].size),
            f"{length:.1e}",
            f"{np.mean(evidence.metric(arm, 'approx_kl')[1]):.2g}",
            "0" if arm == "adam" else str(difference),
        )
        for arm, length, difference in found
    ]
    columns = ["arm", "seeds", "change of a weight", "approximate KL", "end minus default Adam's"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns)) if rows else ""


def on_agents(evidence: JointEvidence) -> str:
    """Ends beside Adam and beside untrained weights in the same agent; what the rules read."""
    worse = {
        agent: gain
        for agent, arms in AGENTS.items()
        if arms["adam"] != "adam" and (gain := shared.gain(evidence, arms["adam"], "adam"))
    }
    return paragraphs(
        [
            _ends(evidence),
            *(f"Adam {agent} minus default Adam {gain}." for agent, gain in worse.items()),
            _read(evidence),
            "With the gradient clip the rule reads at most "
            f"{optim4rl_steps.CLIPPED:.2g} in root mean square, whatever the gradient was.",
        ]
    )


def _ends(evidence: JointEvidence) -> str:
    rows = []
    for agent, arms in AGENTS.items():
        for name in (name for name, arm in arms.items() if evidence.has(arm)):
            beside = [
                _difference(evidence, arms[name], arms[other])
                if other in arms and name not in ("adam", other)
                else ""
                for other in ("adam", "untrained")
            ]
            end = estimate(stats.final(*evidence.returns(arms[name])))
            rows.append((agent, WHO[name], str(evidence.seeds(arms[name])), end, *beside))
    columns = ["agent", "optimizer", "seeds", "final return", "minus Adam's", "minus untrained"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns)) if rows else ""


def _difference(evidence: JointEvidence, arm: str, other: str) -> str:
    """The paired difference of final returns with its interval; a dash for too few seeds."""
    mine, theirs = shared.pairs(evidence, arm, other)
    if mine.size < MINIMUM_SEEDS:
        return "-"
    return str(stats.difference_ci(mine, theirs, rng=shared.rng(), paired=True))


def _read(evidence: JointEvidence) -> str:
    """How large the gradients are that Optim4RL reads in each agent, and how its steps answer."""
    rows = []
    for agent, arms in AGENTS.items():
        for name, arm in arms.items():
            if not WHO[name].startswith("Optim4RL") or not evidence.whole(arm).runs:
                continue
            gradients = evidence.metric(arm, "grad_norm")[1] / _ROOT
            alpha = evidence.config(arm).optimizer.learning_rate or optim4rl_steps.ALPHA
            steps = evidence.metric(arm, "update_norm")[1] / _ROOT / alpha
            rows.append(
                (
                    agent,
                    WHO[name],
                    f"{gradients.min():.2g} to {gradients.max():.2g}",
                    f"{steps.mean():.2f}",
                    f"{steps.min():.2f} to {steps.max():.2f}",
                )
            )
    columns = ["agent", "rule", "gradient before any clip", "change of a weight, α", "its range, α"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns)) if rows else ""


def overview(evidence: JointEvidence) -> str:
    """One row an arm, what is missing, and where the weights come from."""
    return shared.overview(evidence, ARMS)
