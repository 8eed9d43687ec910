"""What others published on the tasks of studies 4 and 5, beside the runs here."""

from __future__ import annotations

import numpy as np
import pandas as pd

from loptrl import stats, status_page
from loptrl.studies.comparison_evidence import ComparisonEvidence
from loptrl.studies.words import estimate, paragraphs

__all__ = ["official_words", "published_table", "reported_over_adam", "reported_table"]


def published_table(evidence: ComparisonEvidence) -> str:
    """Adam here beside the return that the OPEN authors normalise by."""
    rows = []
    for task, words in evidence.tasks.items():
        level = evidence.published_normaliser(task)
        values = evidence.scores.get("adam", {}).get(task)
        if level is None or values is None:
            continue
        gap = 100 * (float(np.mean(values)) / level - 1)
        rows.append((words, f"{level:,.1f}", estimate(values, stats.mean), f"{gap:+.0f} %"))
    if not rows:
        return "No run of Adam is stored yet to compare with the published returns."
    columns = ["task", "Adam as published", "Adam here, mean", "difference"]
    return status_page.as_markdown(pd.DataFrame(rows, columns=columns))


def official_words(evidence: ComparisonEvidence) -> str:
    """Runs of the optimizers' official code of which one return is known, beside those here."""
    found = {
        (optimizer, task): level
        for optimizer in evidence.scores
        for task in evidence.scores[optimizer]
        if (level := evidence.official_run(task, optimizer)) is not None
    }
    lines = []
    for (optimizer, task), level in found.items():
        values = evidence.scores[optimizer][task]
        above = int(np.sum(values > level))
        lines.append(
            f"One run of the official code with {evidence.optimizers[optimizer]} on "
            f"{evidence.tasks[task]} ended at {level:.0f}; those here end at {estimate(values)}, "
            f"{above or 'none'} of {values.size} above it."
        )
    return paragraphs(lines)


def reported_table(evidence: ComparisonEvidence) -> str:
    """Final returns beside the source report's, where its runs are as long as those here.

    Nothing where none is.
    """
    rows = []
    for optimizer, words in evidence.optimizers.items():
        for task, name in evidence.tasks.items():
            found = evidence.source_final(task, optimizer)
            values = evidence.scores.get(optimizer, {}).get(task)
            if values is None or found is None:
                continue
            if not evidence.as_long(found.env_steps, task, optimizer):
                continue
            gap = 100 * (float(np.mean(values)) / found.mean - 1)
            theirs = f"{found.mean:,.1f}, n = {found.num_seeds}"
            here = f"{estimate(values, stats.mean)}, n = {values.size}"
            rows.append((words, name, theirs, here, f"{gap:+.0f} %"))
    if not rows:
        return ""
    columns = ["optimizer", "task", "report, mean", "here, mean", "difference"]
    table = status_page.as_markdown(pd.DataFrame(rows, columns=columns))
    return paragraphs(["The source report's runs that are as long as those here:", table])


def reported_over_adam(evidence: ComparisonEvidence) -> str:
    """Final returns over Adam's, here and in the source report, where its runs are longer.

    Nothing where none is.
    """
    rows = []
    for optimizer, words in evidence.optimizers.items():
        for task in evidence.comparable:
            found, adam = (evidence.source_final(task, name) for name in (optimizer, "adam"))
            if optimizer == "adam" or found is None or adam is None:
                continue
            if task not in evidence.scores.get(optimizer, {}):
                continue
            length = evidence.length(evidence.comparison.arm_name(task, optimizer))
            if found.env_steps <= length or evidence.as_long(found.env_steps, task, optimizer):
                continue
            theirs = f"{found.mean / adam.mean:.2f}, n = {found.num_seeds}"
            steps = f"report {found.env_steps / 1e6:.0f}M, here {length / 1e6:.0f}M"
            here = evidence.over_adam(optimizer, [task])
            rows.append((words, evidence.tasks[task], steps, theirs, here))
    if not rows:
        return ""
    columns = ["optimizer", "task", "env steps", "report", "here"]
    table = status_page.as_markdown(pd.DataFrame(rows, columns=columns))
    return paragraphs(
        [
            "The source report's runs were longer, so that its returns cannot be set beside those "
            "here. Over Adam's in runs of the same length, final returns come to:",
            table,
        ]
    )
