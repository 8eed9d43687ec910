"""What the figures draw, read back from their axes."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from loptrl import plots, stats, style
from loptrl.errors import LoptrlError
from loptrl.plots.axes import log_ticks

STEPS = np.arange(1, 51) * 400_000
FRICTION = np.repeat([0.05, 1.5, 0.3, 0.02, 0.9], 10)
STRENGTH = 1 - 0.4 * STEPS / STEPS[-1]
RNG = np.random.default_rng(7)
CURVES = {
    "Adam": (STEPS, 3000 + RNG.normal(size=(5, 50)) * 200),
    "Equal betas": (STEPS, 3500 + RNG.normal(size=(3, 50)) * 200),
}
LOOKS = {"Adam": "adam", "Equal betas": "adam_equal_betas"}


def lines(axes, label):
    return [line for line in axes.get_lines() if line.get_label() == label]


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def test_learning_curves_draw_the_iqm_and_every_seed():
    figure = plots.learning_curves(CURVES, looks=LOOKS)
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    for name, (steps, values) in CURVES.items():
        (line,) = lines(axes, name)
        expected = [stats.iqm(values[:, t]) for t in range(50)]
        assert np.array_equal(line.get_xdata(), steps)
        assert np.allclose(line.get_ydata(), expected)
        assert line.get_color() == style.COLOURS[LOOKS[name]]
    assert len(lines(axes, "_seed")) == 8
    assert np.array_equal(lines(axes, "_seed")[2].get_ydata(), CURVES["Adam"][1][2])


def test_the_band_is_the_bootstrap_interval():
    steps, values = CURVES["Adam"]
    figure = plots.learning_curves({"adam": (steps, values)}, rng=np.random.default_rng(3))
    (band,) = figure.axes[0].collections
    _, low, high = stats.bootstrap_curve(values, rng=np.random.default_rng(3))
    edge = band.get_paths()[0].vertices
    assert edge[:, 1].min() == pytest.approx(low.min())
    assert edge[:, 1].max() == pytest.approx(high.max())


def test_mean_on_request():
    figure = plots.learning_curves(CURVES, looks=LOOKS, statistic="mean")
    (line,) = lines(figure.axes[0], "Adam")
    assert np.allclose(line.get_ydata(), CURVES["Adam"][1].mean(axis=0))


def test_one_seed_has_neither_band_nor_thin_line():
    figure = plots.learning_curves({"adam": (STEPS, CURVES["Adam"][1][:1])})
    assert len(figure.axes[0].collections) == 0
    assert len(figure.axes[0].get_lines()) == 1


def test_drift_strips_share_the_axis_and_mark_the_changes():
    figure = plots.learning_curves(CURVES, looks=LOOKS, drift=(STEPS, FRICTION, STRENGTH))
    curves, friction, strength = figure.axes
    assert friction.get_yscale() == "log"
    for axes in (curves, friction, strength):
        assert axes.get_xlim() == (0, STEPS[-1])
    (line,) = friction.get_lines()
    # The first row's friction holds from 0 on.
    assert np.allclose(line.get_ydata(), [FRICTION[0], *FRICTION])
    assert line.get_drawstyle() == "steps-post"
    assert np.allclose(strength.get_lines()[0].get_ydata()[1:], STRENGTH)
    changes = sorted(line.get_xdata()[0] for line in lines(curves, "_change"))
    assert changes == [STEPS[i] for i in (10, 20, 30, 40)]


def test_drift_without_wear_has_one_strip():
    assert len(plots.learning_curves(CURVES, looks=LOOKS, drift=(STEPS, FRICTION)).axes) == 2


def test_a_continuous_drift_marks_no_changes():
    drift = plots.DriftTrace(STEPS, 0.5 + 0.3 * np.sin(STEPS / 1e6))
    figure = plots.learning_curves(CURVES, looks=LOOKS, drift=drift)
    assert lines(figure.axes[0], "_change") == []


def test_seeds_that_drift_apart_are_all_drawn():
    drift = (STEPS, np.stack([FRICTION, FRICTION[::-1], FRICTION * 1.1]))
    figure = plots.learning_curves(CURVES, looks=LOOKS, drift=drift)
    assert len(figure.axes[1].get_lines()) == 3
    assert lines(figure.axes[0], "_change") == []
    same = plots.learning_curves(CURVES, looks=LOOKS, drift=(STEPS, np.stack([FRICTION] * 3)))
    assert len(same.axes[1].get_lines()) == 1


def test_drift_figure_draws_what_changes():
    wear = np.stack([STRENGTH, np.ones(50)], axis=1)  # [num_moments, num_actuators]
    figure = plots.drift_figure(STEPS, FRICTION, wear, np.full(50, 0.05))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["friction in force (log scale)", "actuator strength"]
    drawn = figure.axes[1].get_lines()
    assert len(drawn) == 3  # two actuators and their mean
    assert np.allclose(drawn[2].get_ydata()[1:], (STRENGTH + 1) / 2)
    still = plots.drift_figure(STEPS, np.full(50, 1.0), np.ones(50), STRENGTH)
    assert still.axes[1].get_title(loc="left") == "velocity damping"


def test_axes_say_what_they_show():
    figure = plots.learning_curves(CURVES, looks=LOOKS, references={"random policy": 120.0})
    figure.draw_without_rendering()
    assert texts(figure).issuperset(
        {"env steps", "evaluation return", "random policy", "Adam", "Equal betas"}
    )
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["0", "5M", "10M", "15M", "20M"]


def test_diagnostics_panels():
    kl = {name: (s, np.abs(v) / 1e5) for name, (s, v) in CURVES.items()}
    zero = {name: (s, v * (STEPS[0] < STEPS)) for name, (s, v) in kl.items()}
    panels = {"eval_return": CURVES, "update_norm_max": kl, "approx_kl": zero}
    figure = plots.diagnostics(panels, looks=LOOKS, changes=[8e6])
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "evaluation return",
        "largest update norm (log)",
        "approximate KL (log)",
    ]
    # A log axis where all is positive; one that can show 0 where 0 occurs.
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log", "symlog"]
    assert figure.axes[2].get_ylim()[0] == 0
    assert all(lines(axes, "_change")[0].get_xdata()[0] == 8e6 for axes in figure.axes)
    assert len(figure.legends[0].get_texts()) == 2
    # The lowest panel of each column says what its axis is.
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "env steps", "env steps"]


def test_panels_that_name_their_arm_need_no_legend():
    panels = {name: {name: curve} for name, curve in CURVES.items()}
    figure = plots.diagnostics(panels, looks=LOOKS, sharey=True)
    assert figure.legends == []
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim()


def test_interval_dots_draw_value_interval_and_seeds():
    scores = {"Adam": [1.0, 2.0, 6.0], "Equal betas": stats.Estimate(0.3, 0.1, 0.5, 5)}
    figure = plots.interval_dots(scores, looks=LOOKS, statistic=stats.mean, references={"half": 2})
    (axes,) = figure.axes
    assert lines(axes, "Adam")[0].get_xdata() == [3.0]
    assert lines(axes, "Equal betas")[0].get_xdata() == [0.3]
    intervals = [list(line.get_xdata()) for line in lines(axes, "_ci")]
    assert intervals == [[1.0, 6.0], [0.1, 0.5]]
    assert lines(axes, "_seeds")[0].get_xdata().tolist() == [1.0, 2.0, 6.0]
    assert texts(figure).issuperset({"Adam", "0.30 [0.10, 0.50]", "half"})


def test_final_returns_use_the_last_twentieth():
    ramp = np.tile(np.arange(1.0, 101.0), (3, 1))
    figure = plots.final_returns({"adam": (np.arange(1, 101), ramp)})
    # Rows 96 to 100.
    assert lines(figure.axes[0], "Adam")[0].get_xdata() == [98.0]


def test_collapse_chart_draws_every_dip():
    steps = np.arange(2, 101, 2)
    dip, collapse = np.full(50, 1000.0), np.full(50, 1000.0)
    dip[(steps >= 20) & (steps < 30)] = 100.0
    collapse[steps >= 60] = 100.0
    reports = stats.collapse_reports(steps, np.stack([dip, collapse]), random_return=0.0)
    figure = plots.collapse_chart({"adam": reports})
    (axes,) = figure.axes
    assert [list(line.get_xdata()) for line in lines(axes, "_dip")] == [[20, 30]]
    assert [list(line.get_xdata()) for line in lines(axes, "_collapse")] == [[60, 100]]
    assert len(lines(axes, "_run")) == 2
    assert "1 of 2 collapse, 1 of 2 dips recovered" in texts(figure)


def everything() -> dict[str, Figure]:
    reports = {
        name: stats.collapse_reports(s, v, random_return=120.0) for name, (s, v) in CURVES.items()
    }
    clips = ("adam", "adam:no_ratio_clip", "adam:no_gradient_clip", "adam:no_clip")
    seven = dict.fromkeys(style.COLOURS, CURVES["Adam"])
    drift = (STEPS, FRICTION, STRENGTH)
    return {
        "curves": plots.learning_curves(CURVES, looks=LOOKS, drift=drift),
        "seven": plots.learning_curves(seven, references={"random policy": 120.0}),
        "ablation": plots.learning_curves(dict.fromkeys(clips, CURVES["Adam"])),
        "panels": plots.diagnostics(
            dict.fromkeys(("eval_return", "entropy", "x"), CURVES), looks=LOOKS
        ),
        "finals": plots.final_returns(CURVES, looks=LOOKS, references={"random policy": 2800.0}),
        "drift": plots.drift_figure(STEPS, FRICTION, STRENGTH, STRENGTH / 10),
        "collapse": plots.collapse_chart(reports, looks=LOOKS),
    }


@pytest.mark.parametrize(
    "name", ["curves", "seven", "ablation", "panels", "finals", "drift", "collapse"]
)
def test_every_text_fits_and_is_legible_on_a_phone(name):
    figure = everything()[name]
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    width, height = figure.bbox.width, figure.bbox.height
    scale = 360 / width  # of a page 360 px wide
    axis_of = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    ticks = {id(t) for axis in axis_of for tick in axis.majorTicks for t in tick.findobj(Text)}
    boxes = {f"an axis of {name}": axis.get_tightbbox(renderer) for axis in axis_of}
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip():
            continue
        assert text.get_fontsize() * figure.dpi / 72 * scale >= 8.5, text.get_text()
        # A tick outside its axis has a text that is never drawn: the axis' own box counts.
        if id(text) not in ticks:
            boxes[text.get_text()] = text.get_window_extent(renderer)
    for what, box in boxes.items():
        if box is not None:
            assert min(box.x0, box.y0) >= -1, what
            assert box.x1 <= width + 1, what
            assert box.y1 <= height + 1, what


def test_figures_repeat_exactly():
    assert plots.learning_curves(CURVES, looks=LOOKS)._repr_png_() == (
        plots.learning_curves(CURVES, looks=LOOKS)._repr_png_()
    )


def test_plots_leave_pyplot_alone():
    import sys

    for name in list(sys.modules):
        if name == "matplotlib.pyplot":
            pytest.skip("another test imported pyplot")
    everything()
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plots.learning_curves({}), "at least one entry in curves"),
        (lambda: plots.learning_curves({"sgd": CURVES["Adam"]}), "style key"),
        (lambda: plots.learning_curves(CURVES, looks={"Adam": "adam"}), "none for 'Equal betas'"),
        (lambda: plots.learning_curves({"adam": (STEPS[:9], CURVES["Adam"][1])}), "per row"),
        (lambda: plots.learning_curves({"adam": (STEPS, STEPS * np.nan)}), "2 axes"),
        (lambda: plots.learning_curves({"adam": (STEPS, [STEPS * np.nan])}), "fill_diverged"),
        (
            lambda: plots.learning_curves(CURVES, looks=LOOKS, drift=(STEPS, FRICTION - 0.05)),
            "frictions above 0",
        ),
        (
            lambda: plots.learning_curves(CURVES, looks=LOOKS, drift=(STEPS, FRICTION[:9])),
            "one friction per row",
        ),
        (
            lambda: plots.learning_curves(
                CURVES, looks=LOOKS, drift=(STEPS, FRICTION), height="huge"
            ),
            "height of short",
        ),
        (lambda: plots.learning_curves(CURVES, looks=LOOKS, height=-1), "inches above 0"),
        (lambda: plots.drift_figure(STEPS, FRICTION, STRENGTH[:9]), "at every moment"),
        (lambda: plots.diagnostics({}), "entry in panels"),
        (lambda: plots.diagnostics({"entropy": {}}), "the panel 'entropy'"),
        (lambda: plots.diagnostics({"x": CURVES}, looks=LOOKS, columns=0), "one column"),
        (lambda: plots.interval_dots({}), "entry in arms"),
        (lambda: plots.interval_dots({"adam": []}), "at least one number"),
        (lambda: plots.collapse_chart({"adam": []}), "the reports of adam"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(LoptrlError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("low", "high"), [(1.0, 8.6), (0.15, 6.0), (0.02, 0.9), (1e-4, 30.0)])
def test_a_log_axis_has_enough_labels(low, high):
    axes = Figure().subplots()
    axes.plot([0, 1], [low, high])
    axes.set_yscale("log")
    log_ticks(axes.yaxis, low, high)
    bottom, top = axes.get_ylim()
    assert sum(bottom <= tick <= top for tick in axes.yaxis.get_majorticklocs()) >= 3


@pytest.mark.parametrize(("best", "end"), [(2.6, 2.6), (0.4, 1.0), (-3.0, 1.0)])
def test_profiles_reach_the_highest_score(best, end):
    scores = {"adam": np.linspace(best - 1, best, 6)[:, None], "open": np.full((3, 1), best - 2)}
    assert plots.performance_profiles(scores).axes[0].get_xlim() == (0, pytest.approx(end))
