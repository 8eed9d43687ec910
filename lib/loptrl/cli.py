"""The `loptrl` command: runs, notebooks, measurements of speed, meta-training and weights."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from loptrl.errors import LoptrlError
from loptrl.meta_cli import MetaCommands
from loptrl.weights_cli import WeightsCommands

__all__ = ["main"]

Texts = tyro.conf.UseAppendAction[tuple[str, ...]]
Parameters = Annotated[Texts, tyro.conf.arg(aliases=["-p"], metavar="NAME=VALUE")]


def _settings(pairs: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise LoptrlError(
                f"-p expects NAME=VALUE, got {pair!r}; write for example -p env_steps=2e6"
            )
        if name in settings:
            raise LoptrlError(f"-p names {name} twice; give each parameter once")
        settings[name] = value
    return settings


def _value(text: str) -> object:
    """A setting's value: a JSON value, a number such as 2e6, or text."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: float) -> str:
    return f"{value:.0f}" if value.is_integer() else f"{value:.5g}"


@dataclasses.dataclass
class Run:
    """Compute what is missing of a study; stopped at any moment, the same command goes on."""

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")]
    """Name of the study, such as adam_collapse."""
    budget: str = "laptop"
    """smoke (seconds), laptop (the committed evidence) or paper (one GPU)."""
    arm: Texts = ()
    """An arm to compute; repeat for several. All by default."""
    seeds: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Seeds of every arm; the budget's own numbers by default."""
    time_limit: Annotated[str | None, tyro.conf.arg(metavar="TIME")] = None
    """Stop in good order after this long, such as 90s, 30m or 2h."""
    together: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Up to N seeds of an arm at a time as one program: faster on a GPU, not on a CPU."""
    p: Parameters = ()
    """A setting of every run, such as -p env_steps=2e6."""

    def __call__(self) -> None:
        from loptrl import studies
        from loptrl.checks import checked_fields

        study = studies.get(self.study)
        settings = {name: _value(text) for name, text in _settings(self.p).items()}
        checked_fields(study.config_type, settings)
        results = study.load_or_run(
            self.budget,
            self.arm or None,
            self.seeds,
            time_limit=self.time_limit,
            together=self.together,
            **settings,
        )
        print(f"{len(results.runs)} runs of {study.name} are stored: {', '.join(results.arms)}")


@dataclasses.dataclass
class Status:
    """What is done, partial, running, missing or damaged, which runs diverged or lack weights."""

    study: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="STUDY")] = None
    """Name of a study; all by default."""
    budget: str = "laptop"
    """The budget to look at."""

    def __call__(self) -> None:
        from rich.console import Console
        from rich.table import Table

        from loptrl import studies
        from loptrl.runs import Store

        store = Store()
        for name in [self.study] if self.study else studies.NAMES:
            study = studies.get(name)
            table = Table(title=f"{study.title} ({study.name}), {self.budget} budget")
            for column in ("arm", "seed", "run", "state", "env steps", "steps/s"):
                table.add_column(column, justify="right" if "steps" in column else "left")
            for spec in study.specs(self.budget):
                state, steps, speed = store.state(spec), "", ""
                if state == "done":
                    manifest = store.read(spec).manifest
                    steps = f"{manifest['env_steps']:,}"
                    speed = f"{manifest['env_steps_per_s']:,.0f}"
                    if manifest["diverged_at"] is not None:
                        state = "diverged"
                elif state == "missing" and study.weights_of(spec.arm) == "absent":
                    state = "no weights"
                table.add_row(spec.arm, str(spec.seed), spec.key, state, steps, speed)
            Console().print(table)
            unknown = [arm for arm in study.arms if study.weights_of(arm) == "unknown"]
            if unknown:
                print(
                    f"Not planned, for their weights are not known here: {', '.join(unknown)}; "
                    "`loptrl weights list` says where they are."
                )


@dataclasses.dataclass
class Show:
    """The manifest of one stored run and its last rows."""

    key: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="KEY")]
    """The run's key, or its first digits."""

    def __call__(self) -> None:
        from loptrl.runs import Store

        run = Store().find(self.key)
        print(json.dumps(run.manifest, indent=2))
        # Transposed, whole numbers and metrics share a column and so a type.
        print(run.frame.tail(5).T.to_string(header=False, float_format=_shown))


@dataclasses.dataclass
class Execute:
    """Execute a notebook with other parameters into a page of the book."""

    notebook: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="NOTEBOOK")]
    """The notebook, such as notebooks/01_adam_collapse.md."""
    p: Parameters = ()
    """A parameter of the notebook, such as -p env_steps=2e6."""
    to: str | None = None
    """Name of the page; the notebook's own by default."""

    def __call__(self) -> None:
        from loptrl import book

        page = book.execute(self.notebook, _settings(self.p), to=self.to)
        if self.p and self.to is None:
            print(
                f"The page is {page}; `make book` executes it again with the notebook's own "
                "parameters, and --to NAME makes a page that stays."
            )
        else:
            print(f"The page is {page}; `make book` adds it to the book.")


@dataclasses.dataclass
class Bench:
    """Throughput of study 1's agent beside Brax's own trainer, or of any arms side by side."""

    seconds: float = 20.0
    """About how long each measurement takes."""
    arm: Texts = ()
    """STUDY/ARM to measure, or floor:STUDY/ARM (did its rule cost its arithmetic alone), brax,
    brax:all (one device, and one per core), evolution, evolution:all (one core, and all), meta,
    meta:small, official:open, official:open_multi, purejaxrl, optim4rl:meta; repeat for several.
    Ratios are to the first."""
    official: Path | None = None
    """A checkout of the OPEN authors' code; without --arm it is measured beside ours."""
    purejaxrl: Path | None = None
    """A checkout of purejaxrl, likewise."""
    optim4rl: Path | None = None
    """A checkout of the Optim4RL authors' code, likewise."""
    their_python: Path | None = None
    """The interpreter that has what these checkouts import: older versions than ours for OPEN and
    purejaxrl; for Optim4RL ours, where none is given."""
    to: Path | None = None
    """A CSV file that gets every measurement too, written anew; the status page shows those in
    data/speed."""
    rounds: int = 3
    """How often everything is measured, in turn: ratios are taken within a round."""

    def __call__(self) -> None:
        from loptrl import bench
        from loptrl.bench_ratios import BRAX, BRAX_ALL, OURS

        checkouts = bench.Checkouts(self.official, self.purejaxrl, self.optim4rl, self.their_python)
        names = self.arm or checkouts.arms() or (OURS, BRAX, BRAX_ALL)
        print(bench.report(self.seconds, names, checkouts, self.to, self.rounds))


_COMMANDS = {
    "run": Run,
    "status": Status,
    "show": Show,
    "execute": Execute,
    "bench": Bench,
    "weights": WeightsCommands,
    "meta": MetaCommands,
}


def _parse(argv: list[str] | None) -> Any:
    """The command; a line that cannot be read is one sentence, not a box over several lines."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                _COMMANDS,
                prog="loptrl",
                description="Learned optimizers for reinforcement learning that keeps changing.",
                args=argv,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if not end.code:
            raise
    box = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue())
    lines = [line.strip(" │|") for line in box.splitlines()]
    # Between the first two rules stand the words; what follows the first gap is help.
    words = [line for line in lines[1:] if not re.fullmatch(r"[-─╭╮╰╯]+", line)]
    help_text = re.compile("$|For full helptext|Argument helptext|Available subcommands")
    ends = [i for i, line in enumerate(words) if help_text.match(line)]
    text = " ".join(words[: min([len(words), *ends])]).rstrip(".") or "unreadable command line"
    raise LoptrlError(f"{text}; `loptrl COMMAND --help` lists what it takes")


def main(argv: list[str] | None = None) -> None:
    """Entry point of `loptrl`; a user's error ends with one sentence and its exit code."""
    try:
        _parse(argv)()
    except LoptrlError as error:
        print(f"loptrl: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
