"""For the library reference: what autodoc cannot know of dataclasses and named tuples."""

from __future__ import annotations

from typing import Any, NamedTuple


class _Example(NamedTuple):
    field: int


def setup(app: Any) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("autodoc-process-signature", name_factories)
    app.connect("autodoc-skip-member", skip_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def name_factories(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    annotation: str | None,
) -> tuple[str | None, str | None]:
    """`{}` for a default made by `dict`, which a dataclass shows as `<factory>`, no Python."""
    return signature and signature.replace("<factory>", "{}"), annotation


def skip_fields(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """A named tuple's fields are in its docstring; "Alias for field number 0" tells nothing."""
    return True if isinstance(obj, type(_Example.field)) else None
