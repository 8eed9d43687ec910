"""`loptrl weights`: list, get, import and show trained optimizers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["WeightsCommands"]

Name = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]


@dataclasses.dataclass
class ListWeights:
    """The weights that others published and our own: their size, licence, and whether here."""

    def __call__(self) -> None:
        from rich.console import Console
        from rich.filesize import decimal
        from rich.table import Table

        from loptrl import weights

        table = Table(title="Trained optimizers")
        for column in ("name", "family", "numbers", "size", "licence", "trained on", "where"):
            right = column in ("numbers", "size")
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for name in weights.names():
            where = weights.place(name)
            try:
                card = weights.card(name) if where == "not here" else weights.load(name).card
            except weights.WeightsError:
                table.add_row(name, *[""] * 5, "damaged")
                continue
            size = card.get("size")
            table.add_row(
                name,
                card["family"],
                f"{card['values']:,}",
                "" if size is None else decimal(size),
                card.get("licence") or "none named",
                card.get("trained_on", ""),
                where,
            )
        Console().print(table)


@dataclasses.dataclass
class FetchWeights:
    """Get published weights, check and import them; nothing else of this project downloads them."""

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME...")] = ()
    """Published names, such as open/multi; with a folder, all that are in it by default."""
    folder: Annotated[Path | None, tyro.conf.arg(name="from", metavar="DIR")] = None
    """A folder of official files, to do without the network; LOPTRL_WEIGHTS by default."""

    def __call__(self) -> None:
        from loptrl import weights

        done = weights.fetch(self.names, self.folder)
        print(f"imported {', '.join(done)}")


@dataclasses.dataclass
class ImportWeights:
    """Check one official file and keep it for `open_optimizer("multi")` and its like."""

    name: Name
    """Its published name, such as open/multi."""
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The official file; VeLO's needs its config.gin beside it."""

    def __call__(self) -> None:
        from loptrl import weights

        print(f"imported {self.name} into {weights.import_file(self.name, self.file)}")


@dataclasses.dataclass
class ShowWeights:
    """The card of some weights: where they are from, what trained them, their checksums."""

    name: Name
    """A name, such as open/multi, or the path of an .npz."""

    def __call__(self) -> None:
        from loptrl import weights

        card = {**weights.card(self.name), "where": weights.place(self.name)}
        print(json.dumps(card, indent=2))


@dataclasses.dataclass
class UntrainedWeights:
    """Keep a rule's random weights, where meta-training starts, as RULE/untrained."""

    rule: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RULE")]
    """The rule, such as optim4rl."""
    seed: int = 0
    """The seed of the meta-training that starts there."""

    def __call__(self) -> None:
        from loptrl.studies.meta_runs import save_untrained

        print(f"kept {save_untrained(self.rule, self.seed)}")


@dataclasses.dataclass
class WeightsCommands:
    """Trained optimizers: list, fetch, import, show; and untrained ones."""

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[ListWeights, tyro.conf.subcommand("list")]
        | Annotated[FetchWeights, tyro.conf.subcommand("fetch")]
        | Annotated[ImportWeights, tyro.conf.subcommand("import")]
        | Annotated[ShowWeights, tyro.conf.subcommand("show")]
        | Annotated[UntrainedWeights, tyro.conf.subcommand("untrained")]
    ]

    def __call__(self) -> None:
        self.command()
