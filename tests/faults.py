"""A disk that refuses, for tests: stands in for the os module of loptrl.files."""

from __future__ import annotations

import errno
import os
from typing import Any


class FaultyOs:
    """The os module, with one function that fails from its n-th call on.

    Args:
        function: "write", "fsync" or "replace".
        first: the number of the first call that fails, from 1.
        code: the errno.
    """

    def __init__(self, function: str, first: int = 1, code: int = errno.ENOSPC) -> None:
        self.function, self.first, self.code = function, first, code
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name != self.function:
            return real

        def failing(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls >= self.first:
                if name == "write":  # a full disk takes the first bytes
                    real(args[0], bytes(args[1])[:3])
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return failing
