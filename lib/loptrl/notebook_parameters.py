"""The parameters of a notebook: read from its parameters cell, checked before anything runs.

A parameter is one annotated assignment with a comment that ends in what it may be:

    env_steps: int = 20_000_000  # environment steps per seed, in [1000, 1e10]
    compute: str = "missing"  # what to do about missing runs, one of {missing, never, always}

Types are int, float, bool, str, and lists of int, float or str. A number without a range must be
finite and, unless its default is negative, not below zero.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass

from loptrl.errors import NotebookError

__all__ = ["Parameter", "check_parameters", "parse_cell"]

Value = bool | int | float | str | list

_SCALARS = ("int", "float", "bool", "str")
_TYPES = (*_SCALARS, "list[int]", "list[float]", "list[str]")
_RANGE = re.compile(r"\bin\s*([\[(])\s*([^,\s]+)\s*,\s*([^\])\s]+)\s*([\])])\s*$")
_CHOICES = re.compile(r"\bone of\s*\{([^}]*)\}\s*$")
_NOUN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name, type, default, what it means and what it may be.

    Attributes:
        low, high: the ends of the range; a number outside is refused.
        open_low, open_high: whether an end itself is refused.
        choices: the allowed texts; empty when any text is.
    """

    name: str
    type: str
    default: Value
    help: str = ""
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    choices: tuple[str, ...] = ()

    def parse(self, given: object) -> Value:
        """The value that a text or a JSON value stands for.

        Args:
            given: text as typed on a command line, or a value of the parameter's own type.

        Raises:
            NotebookError: the value is of another type, not finite, or out of range.
        """
        if not self.type.startswith("list"):
            return self._scalar(given, self.type)
        if isinstance(given, str):
            text = given.strip()
            try:
                given = json.loads(text) if text.startswith("[") else text.split(",")
            except json.JSONDecodeError:
                raise self._refusal(given) from None
        if not isinstance(given, list | tuple) or not given:
            raise self._refusal(given)
        return [self._scalar(item, self.type[5:-1]) for item in given]

    def _scalar(self, given: object, kind: str) -> Value:
        if kind == "str":
            return self._text(given)
        if kind == "bool":
            words = {"true": True, "false": False}
            given = words.get(given.strip().lower()) if isinstance(given, str) else given
            if not isinstance(given, bool):
                raise self._refusal(given)
            return given
        if isinstance(given, bool):
            raise self._refusal(given)
        number = self._number(given, kind)
        below = number <= self.low if self.open_low else number < self.low
        above = number >= self.high if self.open_high else number > self.high
        if below or above:
            raise NotebookError(f"Parameter {self.name} must lie in {self.range}, got {given}.")
        return number

    def _text(self, given: object) -> str:
        if not isinstance(given, str):
            raise self._refusal(given)
        if self.choices and given not in self.choices:
            raise NotebookError(
                f"Parameter {self.name} must be one of {', '.join(self.choices)}, got {given!r}."
            )
        return given

    def _number(self, given: object, kind: str) -> int | float:
        if isinstance(given, str):
            text = given.strip()
            try:
                # Whole numbers stay exact beyond what a float can hold.
                given = int(text) if re.fullmatch(r"[+-]?\d[\d_]*", text) else float(text)
            except (ValueError, OverflowError):
                raise self._refusal(given) from None
        if not isinstance(given, int | float) or not math.isfinite(given):
            raise self._refusal(given)
        if kind == "float":
            return float(given)
        if given != int(given):
            raise self._refusal(given)
        return int(given)

    @property
    def range(self) -> str:
        """The range as it is written, such as [0, 1)."""
        left, right = "[("[self.open_low], "])"[self.open_high]
        return f"{left}{self.low:g}, {self.high:g}{right}"

    def _refusal(self, given: object) -> NotebookError:
        what = _NOUN.get(self.type, f"a {self.type}")
        shown = given if isinstance(given, str | bool | int | float) else type(given).__name__
        return NotebookError(
            f"Parameter {self.name} must be {what}, got {shown!r}: "
            f"for example {self.name}={json.dumps(self.default)}."
        )


def parse_cell(source: str, notebook: str = "notebook") -> dict[str, Parameter]:
    """Read the parameters cell of a notebook.

    Args:
        source: the cell's Python code.
        notebook: the notebook's name, for messages.

    Returns:
        The parameters by name, in the cell's order.

    Raises:
        NotebookError: a line is no annotated assignment of a plain value, a type is unknown, or a
            default is not what its own comment allows.
    """
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise NotebookError(
            f"The parameters cell of {notebook} is not valid Python: {error.msg}."
        ) from None
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    for statement in body:
        if not (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.value is not None
        ):
            raise NotebookError(
                f"Line {statement.lineno} of the parameters cell of {notebook} must be a typed "
                "assignment such as seeds: int = 5."
            )
        name, kind = statement.target.id, ast.unparse(statement.annotation)
        if kind not in _TYPES:
            raise NotebookError(
                f"Parameter {name} of {notebook} has type {kind}: use one of {', '.join(_TYPES)}."
            )
        try:
            default = ast.literal_eval(statement.value)
        except ValueError:
            raise NotebookError(
                f"Parameter {name} of {notebook} must have a plain value as its default."
            ) from None
        found[name] = _with_limits(name, kind, default, comments.get(statement.end_lineno, ""))
    return found


def check_parameters(
    declared: Mapping[str, Parameter], given: Mapping[str, object], notebook: str = "notebook"
) -> dict[str, Value]:
    """Check given values against the declared parameters.

    Args:
        declared: the notebook's parameters.
        given: values by name, as text or as JSON values.
        notebook: the notebook's name, for messages.

    Returns:
        The given parameters only, as values of their declared types.

    Raises:
        NotebookError: a name is not declared, or a value is refused.
    """
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise NotebookError(f"{notebook} has no parameter {name}: it knows {known}.")
    return {name: declared[name].parse(value) for name, value in given.items()}


def _with_limits(name: str, kind: str, default: Value, comment: str) -> Parameter:
    limits: dict[str, object] = {}
    if match := _RANGE.search(comment):
        try:
            low, high = float(match[2]), float(match[3])
        except ValueError:
            raise NotebookError(
                f"The range of parameter {name} must be two numbers, got {match[0]!r}."
            ) from None
        open_ends = {"open_low": match[1] == "(", "open_high": match[4] == ")"}
        limits = {"low": low, "high": high, **open_ends}
    elif match := _CHOICES.search(comment):
        limits = {"choices": tuple(word.strip() for word in match[1].split(","))}
    elif _counts(kind, default):
        limits = {"low": 0.0}
    parameter = Parameter(name, kind, default, comment, **limits)
    return Parameter(name, kind, parameter.parse(default), comment, **limits)


def _counts(kind: str, default: Value) -> bool:
    """Whether a number without a range must not be below zero."""
    if kind in ("list[int]", "list[float]"):
        return True
    return kind in ("int", "float") and isinstance(default, int | float) and default >= 0


def _comments(source: str) -> dict[int, str]:
    """The comment at the end of each line, by line number."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip("# ").rstrip()
        for token in tokens
        if token.type == tokenize.COMMENT
    }
