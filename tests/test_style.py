"""Colours apart for every reader, numbers in words, files with the same bytes each time."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from loptrl import studies, style
from loptrl.errors import LoptrlError
from loptrl.studies import brax_ant, open_evolved, open_multitask

# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
SRGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.072175],
        [0.0193339, 0.119192, 0.9503041],
    ]
)


def linear(color: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    xyz = SRGB_TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast_on_white(color: str) -> float:
    return 1.05 / (float(linear(color) @ SRGB_TO_XYZ[1]) + 0.05)


def test_the_measure_knows_a_bad_pair():
    # Red and green of one lightness: apart for most readers, close with deuteranopia.
    red, green = linear("#b03a2e"), linear("#5a7a1e")
    assert np.linalg.norm(lab(red) - lab(green)) > 60
    simulated = VISION["deuteranopia"]
    assert np.linalg.norm(lab(simulated @ red) - lab(simulated @ green)) < 25


@pytest.mark.parametrize("vision", VISION)
def test_optimizer_colours_stay_apart(vision):
    seen = {name: lab(VISION[vision] @ linear(c)) for name, c in style.COLOURS.items()}
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 30, (a, b)


def test_colours_stand_out_on_white():
    for name, color in style.COLOURS.items():
        assert contrast_on_white(color) >= 3.0, name


def test_variants_differ_in_line_style_and_keep_their_hue():
    for variant in style.VARIANTS:
        plain, varied = style.look("adam"), style.look(f"adam:{variant}")
        assert varied.linestyle != plain.linestyle
        assert varied.color != plain.color
        # Mixing with white or black keeps the order of the channels.
        assert np.argsort(to_rgb(varied.color)).tolist() == np.argsort(to_rgb(plain.color)).tolist()
        assert contrast_on_white(varied.color) >= 3.0


@pytest.mark.parametrize("name", studies.NAMES)
def test_every_arm_of_every_study_stands_out_on_white(name):
    for arm in studies.get(name).arms.values():
        assert contrast_on_white(style.look(arm.look).color) >= 3.0, arm.look


def test_the_optimizers_of_one_page_stay_apart():
    for comparison in (open_multitask.COMPARISON, brax_ant.COMPARISON, open_evolved.COMPARISON):
        looks = [style.look(look) for look in comparison.looks.values()]
        for a, b in itertools.combinations(looks, 2):
            distance = np.linalg.norm(lab(linear(a.color)) - lab(linear(b.color)))
            assert distance > 15 or str(a.linestyle) != str(b.linestyle), (a, b)


def test_ablation_arms_of_one_figure_differ():
    keys = ["adam", "adam:no_ratio_clip", "adam:no_gradient_clip", "adam:no_clip"]
    looks = [style.look(key) for key in keys]
    assert len({str(look.linestyle) for look in looks}) == 4
    for a, b in itertools.combinations(looks, 2):
        assert np.linalg.norm(lab(linear(a.color)) - lab(linear(b.color))) > 15


def test_every_optimizer_has_words():
    assert set(style.LABELS) == set(style.COLOURS)
    assert style.label("adam:no_ratio_clip") == "Adam, no ratio clip"


@pytest.mark.parametrize("key", ["sgd", "adam:faster", "", "adam:no_clip:more"])
def test_unknown_keys_are_refused(key):
    with pytest.raises(LoptrlError, match="expected a style key"):
        style.look(key)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        (0, "0"),
        (500, "500"),
        (2_000, "2k"),
        (500_000, "500k"),
        (999_999, "1M"),
        (2_000_000, "2M"),
        (2_500_000, "2.5M"),
        (20_000_000, "20M"),
        (1e9, "1B"),
    ],
)
def test_steps_in_words(steps, text):
    assert style.format_steps(steps) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (4000.0, "4,000"), (-1500.0, "-1,500"), (0.25, "0.25"), (35.0, "35")],
)
def test_numbers_in_words(value, text):
    assert style.format_number(value) == text


def test_provenance_line():
    line = style.provenance(
        keys=["1a2b3c4d5e6f7081", "90abcdef12345678", "ffff", "eeee"],
        seeds=[5, 3, 5],
        env_steps=20_000_000,
        budget="laptop",
        device="2 CPU cores",
        command="loptrl run adam_collapse --budget laptop",
    )
    assert line == (
        "runs 1a2b3c4d, 90abcdef and 2 more | 3 to 5 seeds | 20M env steps | laptop budget | "
        "2 CPU cores | loptrl run adam_collapse --budget laptop"
    )
    assert style.provenance(keys=["1a2b3c4d5e"], seeds=1) == "run 1a2b3c4d | 1 seed"
    with pytest.raises(LoptrlError, match="at least one run key"):
        style.provenance(keys=[], seeds=1)
    with pytest.raises(LoptrlError, match="at least one seed"):
        style.provenance(keys=["1a"], seeds=0)


def drawn() -> style.BookFigure:
    with style.context():
        figure = style.new_figure("short")
        figure.subplots().plot([0, 1], [0, 1], color="#2057b8")
    return figure


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_figure_gives_the_same_bytes(tmp_path, suffix):
    first, again = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    style.save(drawn(), first)
    # A user's own settings change nothing.
    with matplotlib.rc_context({"savefig.dpi": 50, "svg.hashsalt": None, "font.size": 30}):
        style.save(drawn(), again)
    assert first.read_bytes() == again.read_bytes()


def test_a_notebook_shows_a_png_of_the_same_bytes():
    shown = drawn()._repr_png_()
    assert shown.startswith(b"\x89PNG")
    assert shown == drawn()._repr_png_()
    assert b"Software" not in shown


def test_the_look_leaves_the_users_settings_alone():
    before = dict(matplotlib.rcParams)
    with style.context():
        assert matplotlib.rcParams["font.size"] == 13
    assert dict(matplotlib.rcParams) == before


def test_saving_refuses(tmp_path):
    with pytest.raises(LoptrlError, match=r"\.png or \.svg"):
        style.save(drawn(), tmp_path / "a.jpg")
    with pytest.raises(LoptrlError, match="to write the figure"):
        style.save(drawn(), tmp_path / "missing" / "a.png")
    with pytest.raises(LoptrlError, match="height of short"):
        style.new_figure("huge")
