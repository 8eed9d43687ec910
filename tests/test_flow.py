"""Drawings of data flows: every box inside, no words outside their box, arrows that arrive."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from loptrl import style
from loptrl.errors import LoptrlError
from loptrl.plots import Arrow, Box, flow_figure
from loptrl.plots.flow import KINDS
from loptrl.studies.method_pages import DRAWINGS, drawing

EACH = pytest.mark.parametrize("family", DRAWINGS)


def parts(figure):
    """Boxes by the words in them, other words, and arrows, in pixels."""
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    boxes = [p.get_window_extent() for p in axes.patches if isinstance(p, FancyBboxPatch)]
    words = [t for t in axes.texts if t.get_text()]
    arrows = [p for p in axes.patches if isinstance(p, FancyArrowPatch)]
    return boxes, words, arrows


@EACH
def test_words_fit_into_their_boxes(family):
    figure = drawing(family)
    boxes, words, _ = parts(figure)
    described = {box.name: box for box in DRAWINGS[family][0]}
    inside = [t for t in words if t.get_gid()]
    assert {t.get_gid() for t in inside} == set(described)
    for text in inside:
        extent = text.get_window_extent()
        room = [b for b in boxes if b.x0 <= extent.x0 and extent.x1 <= b.x1]
        assert any(b.y0 <= extent.y0 and extent.y1 <= b.y1 for b in room), text.get_text()


@EACH
def test_nothing_overlaps(family):
    figure = drawing(family)
    boxes, words, _ = parts(figure)
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])
    free = [t.get_window_extent() for t in words if not t.get_gid()]
    for i, extent in enumerate(free):
        assert not any(extent.overlaps(box) for box in boxes)
        assert not any(extent.overlaps(other) for other in free[i + 1 :])
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.x1


@EACH
def test_no_arrow_crosses_a_box(family):
    boxes, _, arrows = parts(drawing(family))
    assert len(arrows) == len(DRAWINGS[family][1])
    for arrow in arrows:
        extent = arrow.get_window_extent()
        # They run straight: down, or from box to box in a row.
        assert min(extent.width, extent.height) < 30 < max(extent.width, extent.height)
        assert not any(extent.overlaps(box) for box in boxes)


@EACH
def test_the_text_is_legible_on_a_phone(family):
    # A page 390 px wide shows the figure about 360 px wide.
    _, words, _ = parts(drawing(family))
    for text in words:
        assert text.get_fontsize() / 72 * 360 / style.WIDTH >= 10
    assert len(DRAWINGS[family][0]) <= 9


@EACH
def test_what_was_learned_has_the_optimizer_s_colour(family):
    figure = drawing(family)
    edges = [style.to_hex(p.get_edgecolor()) for p in figure.axes[0].patches]
    learned = sum(box.kind == "learned" for box in DRAWINGS[family][0])
    # And once in the legend.
    assert edges.count(style.COLOURS[family]) == learned + 1


def test_a_drawing_is_the_same_bytes_each_time():
    assert drawing("open")._repr_png_() == drawing("open")._repr_png_()


def test_the_sign_for_memory_is_explained_where_it_is_used():
    def words(text):
        _, found, _ = parts(flow_figure([Box("a", text, 0)], [], "#123456"))
        return " ".join(t.get_text() for t in found)

    assert "state kept" in words("GRU ↻") and "state kept" not in words("GRU")


@pytest.mark.parametrize(
    ("boxes", "arrows", "message"),
    [
        ([], [], "expected boxes"),
        ([Box("a", "x", 0), Box("a", "y", 1)], [], "a name twice"),
        ([Box("a", "x", 0, kind="magic")], [], f"expected a kind of {KINDS[0]}"),
        ([Box("a", "x", 0, x=0.9, width=0.4)], [], "reaches beyond"),
        ([Box("a", "x", -1)], [], "reaches beyond"),
        ([Box("a", "x", 0)], [Arrow("a", "b")], "arrows between a, got 'b'"),
    ],
)
def test_a_wrong_description_is_refused(boxes, arrows, message):
    with pytest.raises(LoptrlError, match=message):
        flow_figure(boxes, arrows, "#000000")


def test_an_unknown_rule_has_no_drawing():
    with pytest.raises(LoptrlError, match="expected a rule of optim4rl, open, velo"):
        drawing("adam")
