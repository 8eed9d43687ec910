"""The page of study 1: right with whatever runs are stored, and never training unasked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

import stored_runs
from loptrl import book, drive, stats
from loptrl.errors import DamagedRun, LoptrlError
from loptrl.paths import repo_root
from loptrl.runs import Store
from loptrl.studies import adam_collapse_figures as figures
from loptrl.studies import adam_collapse_report as report
from loptrl.studies.adam_collapse import CONTROL_FRICTIONS, STUDY
from loptrl.studies.adam_collapse_evidence import CONTROLS, WINDOW

NOTEBOOK = repo_root() / "notebooks" / "01_adam_collapse.md"
FIGURES = [getattr(figures, name) for name in figures.__all__]
LONG = 20_070_400  # 98 evaluation slices of 204,800 env steps


LEVELS = {
    "stationary": 9000.0,
    "adam": stored_runs.dipping,
    "equal_99": stored_runs.dipping,
    "no_ratio_clip": stored_runs.collapsing,
    "stationary_no_ratio_clip": 6000.0,
}


def fill(store: Store, seeds: dict[str, int], **settings) -> Store:
    """Store that many seeds of these arms."""
    for arm, count in seeds.items():
        for spec in STUDY.specs("laptop", [arm], count):
            returns = 3000.0 if arm in CONTROLS else LEVELS.get(arm, stored_runs.dipping)
            options = dict(settings.get(arm, {}))
            norm = 0.02 if arm == "adam" else 0.01
            if options.get("diverged_after") and spec.seed:
                del options["diverged_after"]
            stored_runs.keep(store, spec, returns, update_norm=norm, **options)
    return store


def evidence(store: Store, **options) -> report.Evidence:
    return report.load(store=store, compute="never", **options)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Everything the laptop budget asks for."""
    root = tmp_path_factory.mktemp("full")
    arms = {spec.arm: 0 for spec in STUDY.specs()}
    for spec in STUDY.specs():
        arms[spec.arm] += 1
    return fill(Store(root / "results", root / "scratch"), arms)


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """Three seeds of two arms, two of a third, no control: a study under way."""
    root = tmp_path_factory.mktemp("partial")
    store = Store(root / "results", root / "scratch")
    return fill(store, {"stationary": 3, "adam": 3, "no_ratio_clip": 2})


# --- which runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "trains"),
    [
        ({}, None),
        ({"compute": "never", "env_steps": 2_000_000}, None),
        ({"env_steps": 2_000_000}, "missing"),
        ({"seeds": 2}, "missing"),
        ({"budget": "smoke"}, "missing"),
        ({"compute": "missing"}, "missing"),
        ({"compute": "always", "seeds": 1}, "always"),
    ],
)
def test_only_changed_parameters_train(store, monkeypatch, options, trains):
    calls = []

    def recorded(specs, make_program, **settings):
        calls.append((specs, settings["compute"]))
        return drive.Results([])

    monkeypatch.setattr(drive, "load_or_run", recorded)
    found = report.load(store=store, **options)
    assert {compute for _, compute in calls} == ({trains} if trains else set())
    assert sum(len(specs) for specs, _ in calls) == (len(found.asked) if trains else 0)
    if options.get("seeds"):
        assert found.planned("adam") == options["seeds"]
        assert found.planned("control_2") == 1
    if options.get("env_steps"):
        assert found.planned_length("adam") == found.planned_length("control_2") == 2_000_000


def test_nothing_stored_is_said_and_not_drawn(store):
    found = evidence(store)
    assert "nothing can be said yet" in report.headline(found)
    for words in (report.on_change, report.on_betas, report.on_clipping, report.overview):
        assert "nan" not in words(found)
    assert all(v.status == "undecided" for v in report.claims(found).values())
    for draw in FIGURES:
        figure = draw(found)
        assert figure.axes == []
        assert "Not drawn" in figure.texts[0].get_text()


def test_what_is_missing_is_counted_and_left_out(partial):
    found = evidence(partial)
    assert found.missing()["adam"] == 2 and found.missing()["control_2"] == 1
    assert "no_ratio_clip" in found.missing() and found.seeds("no_ratio_clip") == 2
    table = report.overview(found)
    assert "| Adam, default betas | 3 of 5 |" in table
    assert re.search(r"\| Adam, both betas 0.99 \| none of 5 \| missing \|", table)
    assert "Adam, neither clip (3 of 3)" in table and "loptrl run adam_collapse" in table
    assert "Not every planned run is stored" in report.headline(found)
    drawn = {text.get_text() for text in figures.dips_figure(found).findobj(Text)}
    assert "Adam, default betas" in drawn and "Adam, both betas 0.99" not in drawn
    assert "No run is stored of Adam, both betas 0.99 and" in report.on_betas(found)


def test_a_damaged_run_is_refused_by_name(tmp_path):
    store = fill(Store(tmp_path / "results", tmp_path / "scratch"), {"adam": 1})
    (spec,) = STUDY.specs("laptop", ["adam"], 1)
    data = bytearray(store.path(spec).read_bytes())
    data[len(data) // 2] ^= 1
    store.path(spec).write_bytes(data)
    with pytest.raises(DamagedRun, match=spec.key):
        evidence(store)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compute": "perhaps"}, "compute must be one of"),
        ({"budget": "desktop"}, "unknown budget 'desktop'"),
        ({"seeds": -1}, "seeds must be"),
        ({"env_steps": -5}, "env_steps must be"),
    ],
)
def test_bad_parameters_are_refused(store, options, message):
    with pytest.raises(LoptrlError, match=message):
        report.load(store=store, **options)


# --- numbers ------------------------------------------------------------------------------------


def test_the_random_return_is_that_of_the_first_rows(full):
    assert evidence(full).random_return == -10.0


def test_the_grid_and_the_changes(full):
    found = evidence(full)
    assert found.grid("adam")[[0, 1, -1]].tolist() == [0, 204_800, LONG - 204_800]
    # The row past 20 million stands in a regime that the design does not have.
    assert found.changes().tolist() == [2_000_000 * k for k in range(1, 10)]
    assert found.length("control_2") == 9_830_400


def test_a_diverged_run_counts_as_the_random_policy(tmp_path):
    store = Store(tmp_path / "results", tmp_path / "scratch")
    fill(store, {"adam": 2}, adam={"diverged_after": 30})
    found = evidence(store)
    _, returns = found.returns("adam")
    assert returns.shape == (2, 98)
    assert np.all(returns[0, 30:] == -10.0) and returns[0, 29] == 4000.0
    assert found.diverged("adam") == 1
    assert found.metric("adam", "weight_norm")[1].shape == (1, 97)
    assert np.isfinite(found.update_norms("adam")[1]).all()
    assert np.isfinite(found.friction("adam")).all()
    assert found.reports("adam")[0].collapsed
    assert "1 of Adam, default betas" in report.on_clipping(found)
    assert isinstance(figures.diagnostics_figure(found), Figure)


def test_relative_returns_are_those_of_the_control_at_that_friction(tmp_path):
    store = Store(tmp_path / "results", tmp_path / "scratch")
    fill(store, {"adam": 1})
    for index, arm in enumerate(CONTROLS):
        (spec,) = STUDY.specs("laptop", [arm], 1)
        level = 1000.0 * (index + 1)
        stored_runs.keep(store, spec, lambda steps, *_, level=level: np.full(steps.size, level))
    found = evidence(store)
    assert found.controls() == {f: 1000.0 * (i + 1) for i, f in enumerate(CONTROL_FRICTIONS)}
    _, returns = found.returns("adam")
    friction = found.friction("adam")[0, 50]
    # Controls stand at equal distances in log friction, a thousand apart.
    control = 1000.0 * (1 + 4 * np.log(friction / 0.02) / np.log(100))
    assert found.relative("adam")[1][0, 50] == pytest.approx(returns[0, 50] / control, rel=1e-3)


@pytest.mark.parametrize("level", [None, -5.0])
def test_without_a_control_nothing_is_relative(tmp_path, level):
    store = Store(tmp_path / "results", tmp_path / "scratch")
    arms = [arm for arm in CONTROLS if arm != "control_0.2"]
    fill(store, {"stationary": 3, "adam": 3, **dict.fromkeys(arms, 1)})
    if level is not None:
        (spec,) = STUDY.specs("laptop", ["control_0.2"], 1)
        stored_runs.keep(store, spec, lambda steps, *_: np.full(steps.size, level))
    found = evidence(store)
    assert "friction 0.2" in found.no_relative()
    with pytest.raises(LoptrlError, match=r"friction 0\.2"):
        found.relative("adam")
    verdict = report.claims(found)["C2"]
    assert verdict.status == "undecided" and "cannot be made" in verdict.reason
    assert "Not drawn" in figures.relative_figure(found).texts[0].get_text()


# --- verdicts -----------------------------------------------------------------------------------


def test_the_claims_on_complete_evidence(full):
    found = report.claims(evidence(full))
    assert list(found) == ["C1", "C2", "C3", "C4 (betas 0.99)", "C4 (betas 0.997)"]
    # Five seeds dip and come back; the stationary Ant ends higher; without the clip all collapse;
    # the update norm with equal betas is half of the default's.
    assert {v.status for v in found.values()} == {"supported"}
    norms = found["C4 (betas 0.99)"].estimates["difference in largest update norm"]
    assert norms.high < 0


def test_c4_looks_at_the_norms_after_changes_only(tmp_path):
    store = Store(tmp_path / "results", tmp_path / "scratch")
    fill(store, {"adam": 1})
    found = evidence(store)
    steps, norms = found.update_norms("adam")
    assert norms[0, 0] == 0.0
    after = [norms[0, (steps > c) & (steps <= c + WINDOW)].max() for c in found.changes()]
    assert f"{np.mean(after):.3f} (Adam, default betas)" in report.on_betas(found)


def test_too_few_seeds_decide_nothing(partial):
    found = report.claims(evidence(partial))
    assert found["C3"].status == "undecided"
    assert "2 seeds of Adam, no ratio clip" in found["C3"].reason
    assert "no seeds of Adam, both betas 0.99" in found["C4 (betas 0.99)"].reason


def test_runs_without_a_change_do_not_decide_c4(tmp_path):
    store = Store(tmp_path / "results", tmp_path / "scratch")
    for spec in STUDY.specs("laptop", ["adam", "equal_99"], 3, env_steps=1_000_000):
        stored_runs.keep(store, spec, 500.0)
    found = evidence(store, env_steps=1_000_000, seeds=3)
    verdict = report.claims(found)["C4 (betas 0.99)"]
    assert verdict.status == "undecided" and "never changes" in verdict.reason
    assert isinstance(figures.betas_figure(found), Figure)


# --- words and figures --------------------------------------------------------------------------


def test_the_headline_states_what_the_runs_show(full):
    words = report.headline(evidence(full))
    assert words.startswith("**Of 5 seeds of PPO with default Adam on the changing Ant, none")
    assert "5 dip and leave the dip" in words
    assert re.search(
        r"The return ends at 4,020 \[4,.*\]; on the stationary Ant at 9,00\d \[", words
    )
    assert "*Supported*: no permanent collapse (C1)" in words
    assert "Not every planned run" not in words


def test_the_text_beneath_the_graphs_holds_verdicts_and_intervals(full):
    found = evidence(full)
    words = report.on_change(found)
    for claim in ("C1", "C2"):
        verdict = report.claims(found)[claim]
        assert f"**{claim}.**" in words
        assert f"**{verdict.status}**. {verdict.reason}" in words
    assert "changing Ant 4,020 [4,0" in words
    assert "passes 3,000 after 1.23M env steps" in words
    assert report.on_betas(found).count("**supported**") == 2
    assert "collapse rate 1.00" in report.on_clipping(found)
    assert "Adam, no ratio clip 3 of 3; Adam, no gradient clip none of 3" in report.on_clipping(
        found
    )
    table = report.overview(found)
    assert "| Adam, no ratio clip | 3 | 101 | 3 of 3 |" in table
    assert "2,999 at 0.02, 3,000 at 0.0632" in table and "Missing runs" not in table


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_every_figure_names_its_runs(full, draw):
    figure = draw(evidence(full))
    print_ = " ".join(figure._supxlabel.get_text().split())
    assert print_.startswith("runs ")
    assert "3 to 5 seeds" in print_ or "| 5 seeds |" in print_
    assert "laptop budget" in print_ and "20M env steps" in print_
    assert "Some CPU" in print_ and "loptrl run adam_collapse --budget laptop --arm" in print_
    assert figure.get_axes()


def test_graph_1_draws_every_seed_above_its_own_friction(full):
    found = evidence(full)
    figure = figures.change_figure(found)
    returns, friction, strength = figure.axes
    seeds = [line for line in returns.get_lines() if line.get_label() == "_seed"]
    assert len(seeds) == 10
    assert {line.get_label() for line in returns.get_lines()} >= {"stationary Ant", "changing Ant"}
    (mesh,) = [c for c in friction.collections if c.get_array() is not None and c.get_array().size]
    assert np.allclose(np.ravel(mesh.get_array()), np.ravel(found.friction("adam")[:, 1:]))
    assert len(strength.get_lines()) == 5
    changes = [line for line in returns.get_lines() if line.get_label() == "_change"]
    assert len(changes) == 9


def test_one_panel_for_each_clip_that_is_off(full, partial):
    *changing, still = figures.clipping_figure(evidence(full)).axes
    for axes, behind, changes in (
        *((axes, "Adam, default betas", 9) for axes in changing),
        (still, "Adam, nothing changes", 0),
    ):
        labels = [line.get_label() for line in axes.get_lines()]
        assert labels.count("_change") == changes
        assert [name for name in labels if not name.startswith("_")] == [
            behind,
            axes.get_title(loc="left"),
        ]
    (axes,) = figures.clipping_figure(evidence(partial)).axes
    assert axes.get_title(loc="left") == "Adam, no ratio clip"


def test_the_ratio_clip_where_nothing_changes(full, partial, store):
    words = report.on_clipping(evidence(full))
    assert "Where nothing changes. Final return: Adam, nothing changes 9,00" in words
    assert "Adam, no ratio clip, nothing changes 6,00" in words
    assert (
        "3 seeds. Final return without the ratio clip minus that with it there (3 seeds, seed "
        "against seed): -3,00"
    ) in words
    said = "Without the ratio clip none of 3 seeds collapses where nothing changes."
    assert said in words and report.headline(evidence(full)).endswith(said)
    assert said in report.claims(evidence(full))["C3"].reason
    # Three of three on the changing Ant, none of three on the stationary one.
    difference = stats.rate_difference_interval(3, 3, 0, 3)
    assert f"minus that on the stationary one: {difference} (score interval)." in words
    words = report.on_clipping(evidence(partial))
    assert "No run is stored of Adam, no ratio clip, nothing changes." in words
    assert "minus that on the stationary one" not in words
    assert "collapses where nothing changes" not in words
    fill(store, {"adam": 3, "no_ratio_clip": 3})
    for spec in STUDY.specs("laptop", ["stationary_no_ratio_clip"], 2):
        stored_runs.keep(store, spec, stored_runs.collapsing)
    assert "where nothing changes" not in report.headline(evidence(store)), "two seeds say little"
    (spec,) = STUDY.specs("laptop", ["stationary_no_ratio_clip"], 3)[2:]
    stored_runs.keep(store, spec, 6000.0)
    said = "Without the ratio clip 2 of 3 seeds collapse where nothing changes, too: it does not"
    assert said in report.headline(evidence(store))


@pytest.mark.parametrize(
    ("both_off", "said"), [(stored_runs.dipping, True), (stored_runs.collapsing, False)]
)
def test_two_clips_off_may_be_better_than_one(tmp_path, both_off, said):
    store = fill(Store(tmp_path / "results", tmp_path / "scratch"), {"no_ratio_clip": 3})
    for spec in STUDY.specs("laptop", ["no_clip"], 3):
        stored_runs.keep(store, spec, both_off)
    words = report.on_clipping(evidence(store))
    assert ("as well the rate of collapses is lower, by 1.00" in words) is said


def test_the_interval_of_one_seed_is_not_shown(tmp_path):
    store = fill(Store(tmp_path / "results", tmp_path / "scratch"), {"adam": 1})
    words = report.on_change(evidence(store))
    assert "changing Ant 4,000, 1 seed." in words


# --- the notebook -------------------------------------------------------------------------------

BLOCKED = """
import sys
for name in ("jax", "jaxlib", "brax", "flax", "optax", "orbax", "mujoco"):
    sys.modules[name] = None
"""


def test_stored_results_are_drawn_without_jax_and_brax(full):
    import jupytext

    cells = [c.source for c in jupytext.read(NOTEBOOK).cells if c.cell_type == "code"]
    code = "\n".join([BLOCKED, *cells, "figures.change_figure(evidence)._repr_png_()"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": str(repo_root() / "lib"),
            "LOPTRL_DATA": str(full.root.parent),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The notebook at smoke size, trained for real; the folders of data and of pages."""
    folder = tmp_path_factory.mktemp("trained")
    patch = pytest.MonkeyPatch()
    patch.setenv("LOPTRL_DATA", str(folder / "data"))
    patch.setenv("PYTHONPATH", str(repo_root() / "lib"), prepend=os.pathsep)
    given = {"budget": "smoke", "env_steps": "480", "seeds": "1"}
    page = book.execute(NOTEBOOK, given, to="tiny", output_dir=folder / "pages")
    yield folder, page
    patch.undo()


def test_changed_parameters_train_and_make_a_page(trained):
    import nbformat

    folder, page = trained
    runs = sorted((folder / "data" / "results" / "adam_collapse").glob("*/*.parquet"))
    assert [path.parent.name for path in runs] == sorted(STUDY.arms)
    node = nbformat.read(page, as_version=4)
    images = [o for c in node.cells for o in c.get("outputs", []) if "image/png" in o["data"]]
    assert len(images) == len(FIGURES)
    text = page.read_text(encoding="utf-8")
    assert "Of 1 seed of PPO with default Adam" in text
    assert "Too few runs" in text and "Missing runs" not in text
    assert str(folder) not in text and "steps/s" not in text


def test_papermill_alone_draws_the_same_runs(trained, tmp_path):
    import jupytext
    import nbformat
    import papermill

    folder, _ = trained
    kept = {path: path.stat().st_mtime_ns for path in (folder / "data").rglob("*.parquet")}
    converted = tmp_path / "chapter.ipynb"
    jupytext.write(jupytext.read(NOTEBOOK), converted)
    papermill.execute_notebook(
        str(converted),
        str(tmp_path / "run.ipynb"),
        parameters={"budget": "smoke", "env_steps": 480, "seeds": 1},
        progress_bar=False,
        cwd=str(tmp_path),
    )
    node = nbformat.read(tmp_path / "run.ipynb", as_version=4)
    outputs = [o for c in node.cells for o in c.get("outputs", []) if "data" in o]
    assert sum("image/png" in o["data"] for o in outputs) == len(FIGURES)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_the_prose_says_what_the_study_does():
    text = " ".join(NOTEBOOK.read_text(encoding="utf-8").split())
    drift = STUDY.config("adam").drift
    assert drift["friction"] == {
        "form": "Steps", "low": 0.02, "high": 2.0, "period": 2_000_000, "log": True
    }  # fmt: skip
    assert drift["strength"] == {"form": "Wear", "least": 0.0, "most": 0.4, "period": 20_000_000}
    assert "Every 2 million env steps the ground gets a new friction" in text
    assert "from 0.02 to 2, while each joint loses up to 40 % of its strength over 20 mil" in text
    config = STUDY.config("adam")
    assert (config.clip_ratio, config.max_grad_norm) == (0.2, 0.5)
    assert "changed by a fifth" in text and "to a norm of 0.5" in text
    assert f"{config.eval_envs} episodes every {config.env_steps_per_slice:,} env steps" in text
    assert f"first {WINDOW:,} env steps after it" in text
    assert STUDY.config("control_2").env_steps == 10_000_000 and len(CONTROLS) == 5
    assert "This trains twenty-one runs of 4 million env steps" in text
    assert len(report.load(env_steps=2_000_000, seeds=2, compute="never").asked) == 21


def test_the_page_s_own_smoothing_note_holds(full):
    """Evaluations are so far apart that the 2 % window of a dip holds one of them."""
    found = evidence(full)
    steps, returns = found.returns("adam")
    assert np.array_equal(stats.smooth(steps, returns), returns)
    assert "covers one evaluation only" in Path(NOTEBOOK).read_text(encoding="utf-8")
