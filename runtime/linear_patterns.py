"""Match regular expressions that an operator configures, with Go's syntax, in linear time.

Clients choose the text that is matched with these expressions. Python's `re` can take exponential
time for such a text. RE2 takes linear time and has the syntax of Go's `regexp`, which is a rewrite
of RE2 (https://github.com/google/re2/wiki/Syntax).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

MOST: Final = 64
LONGEST: Final = 1024
"""A list has at most MOST patterns, and a pattern at most LONGEST characters."""

# Each pattern may use this many bytes of memory. With less memory RE2 needs more time.
_MEMORY: Final = 1 << 20


class InvalidPattern(ValueError):  # noqa: N818 - the name states the fact
    """A pattern is not valid; the message states the reason."""


class LinearPatterns:
    """A `LinearPatterns` finds out whether a text matches at least one of *patterns*.

    The constructor raises InvalidPattern.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if len(patterns) > MOST:
            raise InvalidPattern(f"more than {MOST} patterns")
        self._compiled = [_compiled(each) for each in patterns]

    def matches(self, text: str) -> bool:
        """Return whether any pattern matches a part of *text*."""
        encoded = text.encode("utf-8", "replace")
        return any(each.search(encoded) for each in self._compiled)


def _compiled(pattern: str) -> Any:  # noqa: ANN401 - RE2 ships no types
    import re2  # noqa: PLC0415 - 1 MB, only for operators who use patterns

    if len(pattern) > LONGEST:
        raise InvalidPattern(f"longer than {LONGEST} characters")
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.never_capture = True
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if isinstance(error, re2.error) else "not UTF-8"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidPattern(text) from error
