"""How far agents get while a rule is meta-trained, from one round of their lives to the next."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from loptrl import style
from loptrl.plots.axes import legend
from loptrl.runs import Run, Store
from loptrl.studies import meta_runs
from loptrl.studies.signed import in_print, note
from loptrl.studies.words import listed

__all__ = ["NAME", "figure", "rounds", "words"]

NAME = "drift_long"
"""The longest meta-training of Optim4RL here, in env steps."""


def rounds(returns: np.ndarray, interval: int) -> np.ndarray:
    """Mean return over each whole reset interval, [num_meta_iterations] -> [num_rounds].

    From the second interval on every agent goes through all ages once in each.
    """
    whole = len(returns) // interval * interval
    return np.nanmean(returns[:whole].reshape(-1, interval), axis=1)


def words(store: Store | None = None) -> str:
    """The return of the agents in each round of lives; nothing where it is not stored.

    Args:
        store: of the meta-training; default the committed results.

    Raises:
        DamagedRun: it is stored and damaged.
    """
    run = _run(store)
    if run is None:
        return ""
    interval = run.spec.config["reset_interval"]
    found = rounds(run.frame["train_return"].to_numpy(np.float64), interval)[1:]
    if not found.size:
        return ""
    return (
        f"While `{NAME}` was meta-trained its agents had a mean training return of "
        f"{listed([f'{value:,.0f}' for value in found])} in the second and the following rounds of "
        f"{interval} meta-iterations. In each of these every agent goes through all ages once; "
        "in the first they are younger on the average. Rounds differ by the rule, which goes on "
        "learning, and by the changes that its agents meet."
    )


def figure(store: Store | None = None) -> Figure:
    """Training return of the agents by meta-iteration, and its mean over one round before.

    Args:
        store: of the meta-training; default the committed results.

    Raises:
        DamagedRun: it is stored and damaged.
    """
    run = _run(store)
    if run is None:
        return note(f"Not drawn: the meta-training {NAME} is not stored.")
    interval, rows = run.spec.config["reset_interval"], run.frame
    look = style.look("optim4rl:long")
    returns = rows["train_return"].to_numpy(np.float64)
    with style.context():
        figure = style.new_figure("short")
        axes = figure.subplots()
        iterations = rows["meta_iteration"].to_numpy()
        axes.plot(iterations, returns, color=look.color, lw=0.7, alpha=0.5, label="one iteration")
        if len(returns) >= 2 * interval:
            windows = np.lib.stride_tricks.sliding_window_view(returns[interval:], interval)
            axes.plot(
                iterations[2 * interval - 1 :],
                np.nanmean(windows, axis=1),
                color=look.color,
                lw=2.2,
                label=f"mean of the last {interval}",
            )
        axes.set_xlabel("meta-iteration")
        axes.set_ylabel("training return")
        legend(figure, axes.get_legend_handles_labels()[0])
    return in_print(figure, meta_runs.small_print([run]))


def _run(store: Store | None) -> Run | None:
    return meta_runs.stored("optim4rl", [NAME], Store() if store is None else store).get(NAME)
