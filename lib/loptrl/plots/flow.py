"""A drawing of a data flow: boxes in rows, from top to bottom, and arrows between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from loptrl import style
from loptrl.errors import LoptrlError

__all__ = ["KINDS", "Arrow", "Box", "flow_figure"]

KINDS = ("input", "learned", "step", "update")
"""What a box is: read by the rule, weights that were learned, fixed arithmetic, the result."""

_TEXT = 15
_LINE = 0.27
_PAD = 0.26
_GAP = 0.42
_LEGEND = 0.42


class Box(NamedTuple):
    """One box of a drawing.

    Attributes:
        name: what arrows call it.
        text: its words; lines are broken where it says so.
        row: 0 at the top; boxes of a row have the same height.
        x: its centre, as a share of the figure's width.
        width: as a share of the figure's width.
        kind: one of `KINDS`.
    """

    name: str
    text: str
    row: int
    x: float = 0.5
    width: float = 0.96
    kind: str = "step"


class Arrow(NamedTuple):
    """An arrow from one box to another.

    Attributes:
        source, target: names of boxes.
        x: where it runs, as a share of the figure's width; None where the two boxes suggest it.
        text: a word beside it.
    """

    source: str
    target: str
    x: float | None = None
    text: str = ""


def flow_figure(boxes: Sequence[Box], arrows: Sequence[Arrow], color: str) -> Figure:
    """The drawing; what was learned has the colour of the optimizer.

    The sign for a state that is kept between updates (U+21BB) is explained beneath, where a box
    has it.

    Args:
        boxes: in any order.
        arrows: between boxes that exist.
        color: of the optimizer, as hex.

    Raises:
        LoptrlError: no boxes, two of one name, an unknown kind, an arrow from or to nowhere, or a
            box that reaches beyond the figure.
    """
    by_name = _checked(boxes, arrows)
    rows = range(max(box.row for box in boxes) + 1)
    lines = [
        max((len(b.text.split("\n")) for b in boxes if b.row == row), default=1) for row in rows
    ]
    heights = [_LINE * count + _PAD for count in lines]
    total = sum(heights) + _GAP * (len(heights) - 1) + _LEGEND + 0.1
    tops = [total - 0.05 - sum(heights[:row]) - _GAP * row for row in rows]
    with style.context():
        figure = style.new_figure(total)
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, style.WIDTH), ylim=(0, total))
        axes.set_axis_off()
        for box in boxes:
            _draw_box(axes, box, tops[box.row], heights[box.row], color)
        for arrow in arrows:
            _draw_arrow(axes, arrow, by_name, tops, heights)
        _draw_legend(axes, boxes, color)
    return figure


def _checked(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> dict[str, Box]:
    by_name = {box.name: box for box in boxes}
    if not boxes or len(by_name) < len(boxes):
        raise LoptrlError("expected boxes, each with a name of its own; got none, or a name twice")
    for box in boxes:
        if box.kind not in KINDS:
            raise LoptrlError(f"expected a kind of {', '.join(KINDS)}, got {box.kind!r}")
        if not 0 <= box.x - box.width / 2 <= box.x + box.width / 2 <= 1 or box.row < 0:
            raise LoptrlError(f"expected the box {box.name!r} inside the figure, it reaches beyond")
    for end in (name for arrow in arrows for name in (arrow.source, arrow.target)):
        if end not in by_name:
            raise LoptrlError(f"expected arrows between {', '.join(by_name)}, got {end!r}")
    return by_name


def _colours(kind: str, color: str) -> tuple[str, str, str]:
    """(fill, edge, text)."""
    return {
        "input": ("#ffffff", style.GREY, style.INK),
        "learned": (style.mixed(color, 0.86), color, style.INK),
        "step": ("#efefef", "#efefef", style.INK),
        "update": (style.INK, style.INK, "#ffffff"),
    }[kind]


def _patch(axes: Axes, left: float, bottom: float, width: float, height: float, **look) -> None:
    shape = "round,pad=0,rounding_size=0.07"
    axes.add_patch(FancyBboxPatch((left, bottom), width, height, boxstyle=shape, **look))


def _draw_box(axes: Axes, box: Box, top: float, height: float, color: str) -> None:
    fill, edge, ink = _colours(box.kind, color)
    left, width = (box.x - box.width / 2) * style.WIDTH, box.width * style.WIDTH
    thick = 2.0 if box.kind == "learned" else 1.2
    _patch(axes, left, top - height, width, height, fc=fill, ec=edge, lw=thick)
    axes.text(
        box.x * style.WIDTH,
        top - height / 2,
        box.text,
        ha="center",
        va="center_baseline" if "\n" not in box.text else "center",
        color=ink,
        fontsize=_TEXT,
        linespacing=1.25,
        gid=box.name,
    )


def _draw_arrow(
    axes: Axes,
    arrow: Arrow,
    by_name: dict[str, Box],
    tops: Sequence[float],
    heights: Sequence[float],
) -> None:
    source, target = by_name[arrow.source], by_name[arrow.target]
    if source.row == target.row:
        sign = 1 if target.x > source.x else -1
        height = tops[source.row] - heights[source.row] / 2
        start = ((source.x + sign * source.width / 2) * style.WIDTH, height)
        end = ((target.x - sign * target.width / 2) * style.WIDTH, height)
    else:
        start = (_meeting(source, target, arrow.x), tops[source.row] - heights[source.row])
        end = (_meeting(target, source, arrow.x), tops[target.row])
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>,head_width=4,head_length=7",
            mutation_scale=1,
            shrinkA=1.5,
            shrinkB=1.5,
            color=style.GREY,
            lw=1.8,
        )
    )
    if arrow.text:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        aside = (0.08, 0.0) if source.row != target.row else (0.0, 0.16)
        axes.text(
            middle[0] + aside[0],
            middle[1] + aside[1],
            arrow.text,
            ha="left" if source.row != target.row else "center",
            va="center",
            color=style.GREY,
            fontsize=_TEXT - 1,
        )


def _meeting(box: Box, other: Box, x: float | None) -> float:
    """Where an arrow touches a box: opposite the other box if it can, so that it runs straight."""
    low, high = box.x - box.width / 2 + 0.03, box.x + box.width / 2 - 0.03
    wanted = (other.x if other.width <= box.width else box.x) if x is None else x
    return min(max(wanted, low), high) * style.WIDTH


def _draw_legend(axes: Axes, boxes: Sequence[Box], color: str) -> None:
    fill, edge, _ = _colours("learned", color)
    _patch(axes, 0.13, 0.09, 0.26, 0.2, fc=fill, ec=edge, lw=2.0)
    words = "learned weights"
    if any("↻" in box.text for box in boxes):
        words += "     ↻  state kept between updates"
    axes.text(0.52, 0.19, words, va="center_baseline", color=style.INK, fontsize=_TEXT - 2)
