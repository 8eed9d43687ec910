"""What the book has found so far: each page's answer, and its claims with their verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from loptrl.runs import Store
from loptrl.studies import (
    adam_collapse_report,
    cost_report,
    gradient_report,
    optim4rl_l2_report,
    transfer_report,
)
from loptrl.studies.changing_ant_report import statuses_of
from loptrl.studies.words import paragraphs
from loptrl.verdicts import Verdict

__all__ = ["PAGES", "answer", "count"]

PAGES: Mapping[str, Any] = MappingProxyType(
    {
        "01_adam_collapse": adam_collapse_report,
        "02_optim4rl_l2": optim4rl_l2_report,
        "03_transfer": transfer_report,
        "07_meta_cost": cost_report,
        "08_gradient_statistics": gradient_report,
    }
)
"""Page of evidence -> what says its words."""


def answer(page: str, store: Store | None = None) -> str:
    """A page's answer in one bold sentence, and a line for each of its claims with the verdict.

    Args:
        page: a name in `PAGES`.
        store: default the committed results; nothing is trained.

    Raises:
        DamagedRun: a stored run is damaged.
    """
    report = PAGES[page]
    evidence = _evidence(page, store)
    sentence = report.headline(evidence).partition("\n\n")[0]
    verdicts = _claims(page, evidence)
    lines = [
        f"- **{claim}.** {report.SAID[claim]} {statuses_of(verdicts, claim)}"
        for claim in dict.fromkeys(verdict.claim for verdict in verdicts.values())
    ]
    return paragraphs([sentence, "\n".join(lines)])


def count(store: Store | None = None) -> str:
    """How many claims of all pages are supported, contradicted and undecided.

    Raises:
        DamagedRun: a stored run is damaged.
    """
    verdicts = [v for page in PAGES for v in _claims(page, _evidence(page, store)).values()]
    found = Counter(verdict.status for verdict in verdicts)
    numbers = ", ".join(f"{found[s]} {s}" for s in ("supported", "contradicted", "undecided"))
    return (
        f"**Of {len(verdicts)} verdicts on the report's claims and one of ours, {numbers}.** Where "
        "a claim can be put to the test in two ways it has a verdict for each."
    )


def _evidence(page: str, store: Store | None) -> Any:
    return PAGES[page].load(compute="never", store=store)


def _claims(page: str, evidence: Any) -> Mapping[str, Verdict]:
    report = PAGES[page]
    return report.claims(evidence) if hasattr(report, "claims") else {}
