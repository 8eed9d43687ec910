"""Parameters of a notebook: what is read, what is accepted, what is refused."""

from __future__ import annotations

import pytest

from loptrl.errors import NotebookError
from loptrl.notebook_parameters import check_parameters, parse_cell

CELL = """
env_steps: int = 20_000_000  # environment steps per seed, in [1000, 1e10]
rate: float = 3e-4  # learning rate, in (0, 1]
beta: float = 0.9  # decay, in [0, 1)
shift: float = -1.0  # may be negative
count: int = 3  # no range
clip: bool = True
compute: str = "missing"  # what to do, one of {missing, never, always}
note: str = "a # in text"
seeds: list[int] = [0, 1]
"""


def checked(**given):
    return check_parameters(parse_cell(CELL), given, "page.md")


def test_the_cell_is_read():
    declared = parse_cell(CELL)
    assert list(declared) == [
        "env_steps",
        "rate",
        "beta",
        "shift",
        "count",
        "clip",
        "compute",
        "note",
        "seeds",
    ]
    steps = declared["env_steps"]
    assert (steps.type, steps.default, steps.low, steps.high) == ("int", 20_000_000, 1000, 1e10)
    assert declared["rate"].open_low and not declared["rate"].open_high
    assert declared["compute"].choices == ("missing", "never", "always")
    assert declared["note"].default == "a # in text"


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("env_steps", "2e6", 2_000_000),
        ("env_steps", "2_000_000", 2_000_000),
        ("env_steps", 2e6, 2_000_000),
        ("env_steps", " 1000 ", 1000),
        ("rate", "1", 1.0),
        ("rate", 1, 1.0),
        ("beta", "0", 0.0),
        ("shift", "-2.5", -2.5),
        ("clip", "false", False),
        ("clip", True, True),
        ("compute", "never", "never"),
        ("note", "", ""),
        ("seeds", "3,4, 5", [3, 4, 5]),
        ("seeds", "[3, 4]", [3, 4]),
        ("seeds", (7,), [7]),
    ],
)
def test_accepted(name, given, value):
    result = checked(**{name: given})
    assert result == {name: value}
    assert type(result[name]) is type(value)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("steps", "5", "page.md has no parameter steps: it knows env_steps, rate"),
        ("env_steps", "many", "env_steps must be a whole number, got 'many'"),
        ("env_steps", "", "must be a whole number"),
        ("env_steps", "1500.5", "must be a whole number"),
        ("env_steps", "nan", "must be a whole number"),
        ("env_steps", "inf", "must be a whole number"),
        ("env_steps", float("nan"), "must be a whole number"),
        ("env_steps", "999", r"must lie in \[1000, 1e\+10\], got 999"),
        ("env_steps", "-2e6", "must lie in"),
        ("env_steps", True, "must be a whole number"),
        ("env_steps", None, "must be a whole number, got 'NoneType'"),
        ("env_steps", "9" * 5000, "must"),
        ("rate", "0", r"rate must lie in \(0, 1\]"),
        ("rate", "fast", "rate must be a number"),
        ("beta", "1", r"beta must lie in \[0, 1\)"),
        ("count", "-1", "count must lie in"),
        ("clip", "maybe", "clip must be true or false"),
        ("clip", 1, "clip must be true or false"),
        ("compute", "Never", "compute must be one of missing, never, always, got 'Never'"),
        ("note", 3, "note must be text"),
        ("seeds", "1,two", "seeds must be"),
        ("seeds", "[1, 2", "seeds must be"),
        ("seeds", "", "seeds must be"),
        ("seeds", [], "seeds must be"),
        ("seeds", [1, -1], "seeds must lie in"),
    ],
)
def test_refused_in_one_sentence(name, given, message):
    with pytest.raises(NotebookError, match=message) as caught:
        checked(**{name: given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("seeds = 5", "Line 1 .* typed assignment"),
        ("seeds: int", "typed assignment"),
        ("print('hello')", "typed assignment"),
        ("seeds: int = 2 +", "not valid Python"),
        ("path: Path = 3", "has type Path"),
        ("seeds: int = many()", "plain value"),
        ("seeds: int = 0.5", "must be a whole number"),
        ("seeds: int = 0  # seeds, in [1, 9]", "must lie in"),
        ("seeds: int = 3  # seeds, in [one, 9]", "must be two numbers"),
    ],
)
def test_a_wrong_parameters_cell_is_refused(cell, message):
    with pytest.raises(NotebookError, match=message):
        parse_cell(cell, "page.md")
