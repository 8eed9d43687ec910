"""Studies 4 and 5 in words: verdicts on C9 to C12, tables, and what is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from loptrl import provenance, stats, status_page, verdicts
from loptrl.ppo.config import HAND_DESIGNED
from loptrl.studies import brax_ant
from loptrl.studies import changing_ant_report as shared
from loptrl.studies.comparison_evidence import ComparisonEvidence, load
from loptrl.studies.meta_recipes import RECIPES
from loptrl.studies.words import estimate, listed, paragraphs, plural
from loptrl.verdicts import MINIMUM_SEEDS, Verdict

__all__ = [
    "SAID",
    "claims",
    "decided",
    "finals_table",
    "headline",
    "load",
    "missing",
    "normalised_table",
    "on_devices",
]

_OTHER_OPENS = ("open", "open_own", "open_own_two")
_C11 = ("adam", "open", "open_multi")
SAID = {
    "C9": "The report: OPEN beats all baselines on the discrete games.",
    "C10": "The report: OPEN is the only learned optimizer above Adam on the average.",
    "C11": "The report: on Ant OPEN is at most level with Adam, and fails out of distribution.",
    "C12": "The report: VeLO performs poorly in reinforcement learning.",
}
_SHORT = {
    "C9": "OPEN beats all baselines on the games",
    "C10": "only OPEN is above Adam on the average",
    "C11": "OPEN is at most level with Adam on Ant, and fails out of distribution",
    "C12": "VeLO performs poorly",
}


def claims(evidence: ComparisonEvidence) -> Mapping[str, Verdict]:
    """The verdicts that a study decides: C9 and C10 on games, C11 on bodies, C12 on both."""
    names = evidence.optimizers
    opened, adam, velo = (names[name] for name in ("open_multi", "adam", "velo"))
    complete = {
        names[name]: {evidence.tasks[task]: values for task, values in own.items()}
        for name, own in evidence.complete().items()
    }
    c12 = verdicts.c12(complete, velo, reference=adam, rng=_rng())
    if evidence.study is brax_ant.STUDY:
        return {"C11": _c11(evidence), "C12": c12}
    # What has fewer seeds decides nothing, neither for nor against those that have enough.
    scores = {
        name: own
        for name, own in complete.items()
        if name in (opened, adam)
        or (
            name not in [names[other] for other in _OTHER_OPENS]
            and min(values.size for values in own.values()) >= MINIMUM_SEEDS
        )
    }
    hand_designed = [names[name] for name in HAND_DESIGNED]
    learned = [name for name in scores if name not in (*hand_designed, opened)]
    c10 = verdicts.c10(scores, opened, learned, reference=adam, rng=_rng())
    if c10.estimates:
        c10 = c10.noting(_with_adam_drawn(evidence, "open_multi"))
    return {
        "C9": verdicts.c9(scores, opened, rng=_rng()),
        "C10": c10,
        "C12": c12,
    }


def _c11(evidence: ComparisonEvidence) -> Verdict:
    own = {name: evidence.scores.get(name, {}).get("ant", np.empty(0)) for name in _C11}
    few = [evidence.optimizers[name] for name, values in own.items() if not values.size]
    if few:
        return Verdict("C11", "undecided", f"Too few runs: none of {listed(few)} on Ant.")
    verdict = verdicts.c11(*own.values(), rng=_rng())
    if "humanoid" not in evidence.comparable or "humanoid" not in evidence.scores.get("open", {}):
        return verdict
    other = evidence.over_adam("open", ["humanoid"])
    return verdict.noting(
        f"On the Humanoid, of which C11 does not speak, {evidence.optimizers['open']} scores "
        f"{other} of Adam's return."
    )


def _with_adam_drawn(evidence: ComparisonEvidence, optimizer: str) -> str:
    """What an optimizer's normalised score is when Adam's own seeds are uncertain too."""
    tasks = list(evidence.comparable)
    if optimizer not in evidence.normalised():
        return ""
    score = evidence.over_adam(optimizer, tasks)
    apart = ", not told apart from Adam" if score.low <= 1 <= score.high else ""
    return (
        "That takes Adam's means as exact; with its own seeds drawn again as well "
        f"{evidence.optimizers[optimizer]} scores {score}{apart}. One of its runs ends above one "
        f"of Adam's in a share of {_chance(evidence, optimizer)} of all pairs, every game with the "
        "same weight."
    )


def _chance(evidence: ComparisonEvidence, optimizer: str) -> stats.Estimate:
    """How often one of an optimizer's runs ends above one of Adam's, games with equal weight."""
    scores, tasks = evidence.scores, evidence.comparable
    own, adam = ({task: scores[name][task] for task in tasks} for name in (optimizer, "adam"))
    return stats.probability_of_improvement(own, adam, rng=_rng())


def normalised_table(evidence: ComparisonEvidence) -> str:
    """Scores over Adam's mean, task by task and pooled, Adam's seeds drawn again as well."""
    normal, tasks = evidence.normalised(), list(evidence.comparable)
    rows = [
        (
            evidence.optimizers[name],
            *(str(evidence.over_adam(name, [task])) for task in tasks),
            str(evidence.over_adam(name, tasks)),
        )
        for name in normal
        if name != "adam"
    ]
    if not rows:
        return "No optimizer but Adam has runs on every task that is shown."
    columns = ["over Adam's mean", *(evidence.tasks[task] for task in tasks), "pooled"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns))


def headline(evidence: ComparisonEvidence) -> str:
    """The answer in one bold sentence, and the verdicts in a list."""
    # A game is one of several alike. A body is not: one is what the rules were trained on.
    apart = evidence.study is brax_ant.STUDY
    tasks = list(evidence.comparable)
    groups = [[task] for task in tasks] if apart else [tasks]
    scored = [(group, evidence.normalised(group)) for group in groups]
    parts = [
        f"On {listed([evidence.tasks[task] for task in group])}"
        f"{' pooled' if len(group) > 1 else ''} {_scored(evidence, normal, group)}"
        for group, normal in scored
        if set(normal) - set(HAND_DESIGNED)
    ]
    if not evidence.runs.runs:
        answer = "**No run is stored: nothing can be said yet.**"
    elif parts:
        answer = f"**Learned optimizers beside tuned Adam, which scores 1. {'. '.join(parts)}.**"
    else:
        answer = (
            "**No learned optimizer has runs on every task on which all of Adam's score above 0: "
            "nothing can be said on the average yet.**"
        )
    found = claims(evidence)
    lines = [shared.statuses(found, _SHORT, incomplete=bool(evidence.missing()))]
    if "C10" in found and found["C10"].estimates:
        lines.insert(0, _task_by_task(evidence, "open_multi", found["C10"]))
    unstarted = [words for task, words in evidence.tasks.items() if task not in evidence.started]
    if unstarted and evidence.runs.runs:
        lines.insert(0, f"No run on {listed(unstarted)} is stored yet.")
    unmeasured = [words for task, words in evidence.started.items() if task not in tasks]
    if unmeasured:
        lines.insert(
            0, f"Left out: {listed(unmeasured)}, where not every run of Adam scores above 0."
        )
    return f"{answer}\n\n" + " ".join(line for line in lines if line)


def _task_by_task(evidence: ComparisonEvidence, optimizer: str, c10: Verdict) -> str:
    """On which tasks an optimizer ends above Adam and below, and what C10 takes as exact."""
    name = evidence.optimizers[optimizer]
    scores = {
        words: evidence.over_adam(optimizer, [task]) for task, words in evidence.comparable.items()
    }
    above = [words for words, score in scores.items() if score.low > 1] or ["none"]
    below = [words for words, score in scores.items() if score.high < 1] or ["none"]
    exact = c10.estimates[f"Adam-normalised IQM of {name}"]
    return (
        f"Game by game {name} is above Adam on {listed(above)} and below on {listed(below)}. "
        f"C10 takes Adam's means as exact, which leaves {exact} for it; one of its runs ends above "
        f"one of Adam's in a share of {_chance(evidence, optimizer)} of all pairs."
    )


def _scored(
    evidence: ComparisonEvidence,
    normal: Mapping[str, Mapping[str, np.ndarray]],
    tasks: Sequence[str],
) -> str:
    """The learned optimizers' scores: above 1, not told apart from it, below; the best first."""
    learned = {name: own for name, own in normal.items() if name not in HAND_DESIGNED}
    scores = {name: evidence.over_adam(name, tasks) for name in learned}
    groups: dict[str, list[str]] = {"above it": [], "not told apart": [], "below": [], "": []}
    for name in sorted(scores, key=lambda name: -scores[name].value):
        seeds = min(map(len, learned[name].values()))
        score, words = scores[name], f"{evidence.optimizers[name]} {scores[name]}"
        if seeds < MINIMUM_SEEDS:
            groups[""].append(f"{words} ({seeds} {plural('seed', seeds)}, too few to tell)")
        elif score.low > 1:
            groups["above it"].append(words)
        else:
            groups["below" if score.high < 1 else "not told apart"].append(words)
    few = groups.pop("")
    said = [f"{where}: {', '.join(words) or 'none'}" for where, words in groups.items()]
    columns = [values for own in learned.values() for values in own.values()]
    return f"({_seeds(columns)} each) {'; '.join(said + few)}"


def _seeds(columns: Collection[np.ndarray]) -> str:
    fewest, most = min(map(len, columns)), max(map(len, columns))
    return f"{fewest} {plural('seed', most)}" if fewest == most else f"{fewest} to {most} seeds"


def decided(evidence: ComparisonEvidence) -> str:
    """Each claim, and its verdict with the numbers that decided."""
    parts = []
    for claim, verdict in claims(evidence).items():
        parts.append(f"**{claim}.** {SAID[claim]} Here: **{verdict.status}**. {verdict.reason}")
        if claim == "C9" and verdict.estimates:
            # From names such as "P(OPEN > Adam), Asterix".
            shares = {tuple(n[2:].split("), ")): str(e) for n, e in verdict.estimates.items()}
            table = pd.Series(shares).unstack(sort=False).reset_index(names="share of pairs")
            parts.append(status_page.as_markdown(table))
    return paragraphs(parts)


def finals_table(evidence: ComparisonEvidence) -> str:
    """Final training returns by task: IQM over seeds, 95 % interval, number of seeds.

    Optimizers without any run are left out; `missing` names them.
    """
    rows = []
    for optimizer, words in evidence.optimizers.items():
        if optimizer not in evidence.scores:
            continue
        row = [words]
        for task in evidence.tasks:
            values = evidence.scores.get(optimizer, {}).get(task)
            row.append("-" if values is None else f"{estimate(values)}, n = {values.size}")
        rows.append(row)
    return status_page.as_markdown(pd.DataFrame(rows, columns=["optimizer", *_words(evidence)]))


def on_devices(evidence: ComparisonEvidence) -> str:
    """On how many seeds each optimizer has from each kind of machine, and whether that matters.

    It can be told only where one optimizer has seeds from two kinds on one task.
    """
    kinds = sorted({provenance.machine(run.manifest["device"]) for run in evidence.runs.runs})
    if len(kinds) < 2:
        return "- **Kinds of machine.** All runs of this page are from one kind."
    counts, differences = [], []
    for optimizer, name in evidence.optimizers.items():
        total = dict.fromkeys(kinds, 0)
        for task, finals in evidence.scores.get(optimizer, {}).items():
            runs = evidence.runs.of(evidence.comparison.arm_name(task, optimizer))
            of = np.array([provenance.machine(run.manifest["device"]) for run in runs])
            for kind in kinds:
                total[kind] += int(np.sum(of == kind))
            on_gpu = of != "CPU"
            if min(on_gpu.sum(), np.sum(~on_gpu)) >= MINIMUM_SEEDS:
                found = stats.difference_ci(finals[on_gpu], finals[~on_gpu], rng=_rng())
                seeds = f"{on_gpu.sum()} and {(~on_gpu).sum()} seeds"
                differences.append(f"{name} on {evidence.tasks[task]} {found} ({seeds})")
        if any(total.values()):
            counts.append((name, *total.values()))
    table = status_page.as_markdown(pd.DataFrame(counts, columns=["runs of", *kinds]))
    words = (
        "- **Kinds of machine.** The runs come from those in the table, so that optimizers which "
        "are compared can differ in that too. Final returns on the GPU minus those on the CPU, "
        f"where one optimizer has {MINIMUM_SEEDS} seeds of both on one task: "
        f"{'; '.join(differences) or 'none has'}."
    )
    return paragraphs([words, table])


def missing(evidence: ComparisonEvidence) -> str:
    """Which runs are missing and why."""
    parts, without = [], evidence.without_weights()
    lacking = evidence.missing()
    if lacking:
        count = sum(lacking.values())
        none = [
            words
            for name, words in evidence.optimizers.items()
            if name not in (*evidence.scores, *without)
        ]
        among = f", among them all of {listed(none)}" if none else ""
        parts.append(
            f"{count} of {len(evidence.asked)} planned {plural('run', count)} are missing{among}. "
            f"They are neither drawn nor guessed; `{evidence.command()}` computes those whose "
            "weights are here."
        )
    unmade = [name for name in without if _has_recipe(evidence, name)]
    if unmade:
        parts.append(
            f"No run of {listed([evidence.optimizers[name] for name in unmade])}: not meta-trained "
            "yet ({doc}`../reuse` says how)."
        )
    absent = [evidence.optimizers[name] for name in without if name not in unmade]
    if absent:
        parts.append(
            f"No run of {listed(absent)}: where this page was made, the weights were not at hand "
            "(`loptrl weights list` says where they are)."
        )
    return paragraphs(parts) or "Every planned run is stored."


def _has_recipe(evidence: ComparisonEvidence, optimizer: str) -> bool:
    """Whether an optimizer's weights are made here, by a recipe of their name."""
    arm = evidence.comparison.arm_name(next(iter(evidence.tasks)), optimizer)
    weights = evidence.study.arm(arm).settings["optimizer"]["weights"]
    rule, _, name = weights.partition("/")
    return name in RECIPES.get(rule, {})


def _words(evidence: ComparisonEvidence) -> list[str]:
    return list(evidence.tasks.values())


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)
