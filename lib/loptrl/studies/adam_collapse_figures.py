"""The figures of study 1, for the arms that each of them compares."""

from __future__ import annotations

from matplotlib.figure import Figure

from loptrl.studies import changing_ant_figures as shared
from loptrl.studies.adam_collapse import STUDY
from loptrl.studies.adam_collapse_evidence import CONTROLS, Evidence
from loptrl.studies.adam_collapse_report import CHANGE
from loptrl.studies.signed import note

__all__ = [
    "betas_figure",
    "change_figure",
    "clipping_figure",
    "diagnostics_figure",
    "dips_figure",
    "relative_figure",
]

_DIAGNOSTICS = (
    "largest_update",
    "update_norm_max",
    "weight_norm",
    "feature_rank_actor",
    "dormant_fraction_actor",
    "value_error",
    "approx_kl",
    "clip_fraction",
)


def change_figure(evidence: Evidence) -> Figure:
    """Graph 1: the stationary against the changing Ant, both with default Adam."""
    return shared.learning_figure(evidence, tuple(CHANGE), words=CHANGE)


def betas_figure(evidence: Evidence) -> Figure:
    """Graph 2: Adam's default against equal betas, on the same changes."""
    return shared.panels_figure(evidence, ("equal_99", "equal_997"), behind=("adam",))


def relative_figure(evidence: Evidence) -> Figure:
    """Returns divided by what a control reaches that only ever knew the friction in force."""
    problem = evidence.no_relative()
    if problem:
        return note(f"Not drawn: {problem}.")
    return shared.learning_figure(
        evidence,
        ("stationary", "adam", "equal_99", "equal_997"),
        curve=evidence.relative,
        title="return / return of a control on that friction alone",
        references={"control": 1.0},
    )


def clipping_figure(evidence: Evidence) -> Figure:
    """One panel for each clip that is off, with the same agent with both clips behind it."""
    return shared.panels_figure(
        evidence,
        ("no_ratio_clip", "no_gradient_clip", "no_clip", "stationary_no_ratio_clip"),
        behind=("adam", "stationary"),
    )


def dips_figure(evidence: Evidence) -> Figure:
    """Every seed's dips and collapses, arm by arm."""
    return shared.dips_figure(evidence, [arm for arm in STUDY.arms if arm not in CONTROLS])


def diagnostics_figure(evidence: Evidence) -> Figure:
    """What happened inside the agents; diverged runs are left out."""
    wanted = ("stationary", "adam", "equal_99", "no_ratio_clip")
    return shared.diagnostics_figure(evidence, wanted, _DIAGNOSTICS)
