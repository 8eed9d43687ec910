"""What people see and write: progress, notices, durations."""

from __future__ import annotations

import math

import pytest

from loptrl import progress
from loptrl.drive import load_or_run, parse_duration
from loptrl.errors import LoptrlError
from loptrl.progress import Progress, count, duration
from toy_program import Toy, toy_spec


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5H", 5400),
        (" 45 ", 45),
        ("1h 5m 2s", 3902),
        ("5m5", 305),
        (0.5, 0.5),
        (7, 7),
        (None, None),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "-5m", "m", "5d", "1m1h", "1h1h", math.nan, math.inf, 0, -1, True]
)
def test_wrong_durations(text):
    with pytest.raises(LoptrlError, match="Expected a time limit such as"):
        parse_duration(text)


def test_plain_lines_where_there_is_no_terminal(store, capsys, monkeypatch):
    load_or_run([toy_spec(3)], Toy, store=store, progress="auto")
    assert capsys.readouterr().err == "", "nothing within the first minute"
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    load_or_run([toy_spec(3, 1), toy_spec(3)], Toy, store=store, progress="auto")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0] == "loptrl: run 2/2 toy/plain seed 1: 10 of 30 env steps (33 %)", (
        "nothing to rate"
    )
    assert lines[2].endswith(" left") and "steps/s" in lines[2]


def test_a_bar_where_it_is_asked_for(store, capsys):
    load_or_run([toy_spec(3)], Toy, store=store, progress=True)
    said = capsys.readouterr().err
    assert "run 1/1 toy/plain seed 0: 100%|" in said and "30.0/30.0" in said
    assert "steps/s" in said


def test_a_notice_does_not_break_the_bar(capsys):
    view = Progress(True)
    view.start("a/b seed 0", 1, 1, 0, 10)
    view.notice("something happened")
    view.finish()
    assert "\nloptrl: something happened\n" in capsys.readouterr().err.replace("\r", "\n")


def test_numbers_for_people():
    assert [count(v) for v in (950, 28_100, 999_600, 2e7, 1e9)] == [
        "950",
        "28.1k",
        "1M",
        "20M",
        "1G",
    ]
    assert [duration(s) for s in (41.6, 470, 3900, -1)] == ["42s", "7m50s", "1h05m", "0s"]
