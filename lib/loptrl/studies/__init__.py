"""The experiments: one file each, with its arms, budgets and claims."""

from loptrl.errors import LoptrlError
from loptrl.studies.base import Study

__all__ = ["NAMES", "get"]

NAMES = (
    "adam_collapse",
    "optim4rl_l2",
    "transfer",
    "open_multitask",
    "brax_ant",
    "meta_cost",
    "meta_sensitivity",
    "gradient_statistics",
    "physics_path",
    "open_evolved",
    "open_change",
    "step_size",
)


def get(name: str) -> Study:
    """The study of that name.

    Raises:
        LoptrlError: there is none.
    """
    if name not in NAMES:
        raise LoptrlError(f"unknown study {name!r}: expected one of {', '.join(NAMES)}")
    from importlib import import_module

    return import_module(f"loptrl.studies.{name}").STUDY
