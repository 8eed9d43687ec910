"""Figures with their provenance in small print, and words where a figure cannot be drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from loptrl import style
from loptrl.studies.evidence import StudyEvidence

__all__ = ["in_print", "note", "signed"]

_PRINT = 8.5  # points; about 100 letters a line
_LINE = 0.15  # inches a line of small print
_NAMED = 8


def signed(figure: Figure, evidence: StudyEvidence, arms: Sequence[str]) -> Figure:
    """The figure with its provenance in small print beneath."""
    runs = [run for arm in arms for run in evidence.runs.of(arm)]
    text = style.provenance(
        keys=[run.spec.key for run in runs],
        seeds=[evidence.seeds(arm) for arm in arms],
        env_steps=evidence.planned_length(arms[0]),
        budget=evidence.budget,
        device=" and ".join(sorted({run.manifest["device"] for run in runs})),
        # More names than are read: then the command for everything.
        command=evidence.command(*arms) if len(arms) <= _NAMED else evidence.command(),
    )
    return in_print(figure, text)


def in_print(figure: Figure, text: str) -> Figure:
    """The figure with a text in small print beneath."""
    lines = textwrap.wrap(text, 98, break_long_words=False, break_on_hyphens=False)
    figure.set_figheight(figure.get_figheight() + _LINE * len(lines))
    figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=_PRINT, color=style.GREY)
    return figure


def note(text: str) -> Figure:
    """Words in the place of a figure that cannot be drawn."""
    with style.context():
        figure = style.new_figure(1.2)
        figure.text(0.02, 0.5, textwrap.fill(text, 62), va="center", color=style.GREY)
    return figure
