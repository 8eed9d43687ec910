"""The search that made a stand-in for VeLO's weights, which decides no claim."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from loptrl import weights
from loptrl.runs import Run, Store
from loptrl.studies import meta_recipes, meta_runs, searches
from loptrl.studies.words import listed

__all__ = ["figure", "words"]

NAME = "standin"
_LAST = 100
_TASKS = {
    "digits": "handwritten digits",
    "wine": "wines",
    "breast_cancer": "tumours",
    "iris": "irises",
}


def figure(store: Store | None = None) -> Figure:
    """Its fitness by generation.

    Args:
        store: of the search; default the committed results.

    Raises:
        DamagedRun: it is stored and damaged.
    """
    run = _run(store)
    panels = {} if run is None else {"fitness of the stand-in for VeLO (Adam: 1)": (run, "velo")}
    return searches.fitness_figure(panels, env_steps=False, lowest=-0.5)


def words(store: Store | None = None) -> str:
    """What it reached, in all and on each task.

    Args:
        store: of the search; default the committed results.

    Raises:
        DamagedRun: it is stored and damaged.
    """
    run = _run(store)
    if run is None:
        return "The search for a stand-in is not stored."
    config = meta_recipes.recipe("velo", NAME).config
    rows = run.frame.iloc[-_LAST:]
    tasks = [
        f"{np.mean(rows[f'center_return_{task}']) / level:.2f} on {_TASKS[task]}"
        for task, level in zip(config.tasks, config.normalisers, strict=True)
    ]
    return (
        f"Fitness of all members: {searches.fitness_words(run)}, where 1 is what Adam learns with "
        "the best of some step sizes for each task. The search mean over the last "
        f"{len(rows)} generations, in units of Adam's: {listed(tasks)}. The weights are "
        f"{weights.card(f'velo/{NAME}', 'velo')['values']:,} numbers."
    )


def _run(store: Store | None) -> Run | None:
    return meta_runs.stored("velo", [NAME], Store() if store is None else store).get(NAME)
