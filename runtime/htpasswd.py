"""Parse the password file for the check of the configuration and for the workers.

Only bcrypt is accepted, as in docker distribution. Most other hashes of htpasswd are insecure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

# Apache writes the prefix $2y$, OpenBSD $2b$, and old versions of PHP $2a$, for the same algorithm.
# The prefix $2x$ is not accepted, because it marks hashes of a faulty implementation.
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BOM = b"\xef\xbb\xbf"


class Fault(Enum):
    """A `Fault` is a defect of one line of the password file."""

    NOT_UTF8 = "not UTF-8"
    NOT_USER_HASH = "not `user:hash`"
    CONTROL = "a control character in the user's name"
    NOT_BCRYPT = "not a bcrypt hash"


@dataclass(frozen=True, slots=True)
class PasswordLine:
    """A line of the password file that is neither empty nor a comment.

    `number` is the number of the line, from 1. A valid line has no `fault`.
    """

    number: int
    user: str
    hashed: str
    fault: Fault | None


def is_bcrypt(hashed: str) -> bool:
    """Return whether *hashed* is a bcrypt hash."""
    return _BCRYPT.fullmatch(hashed) is not None


def lines(content: bytes) -> Iterator[PasswordLine]:
    """Yield the lines of a password file without empty lines and comments."""
    for number, raw in enumerate(content.removeprefix(_BOM).splitlines(), 1):
        if raw.strip() and not raw.lstrip().startswith(b"#"):
            yield _line(number, raw)


def _line(number: int, raw: bytes) -> PasswordLine:
    try:
        # bytes.strip removes only ASCII white space. Other white space can belong to a user's name.
        user, colon, hashed = raw.strip().decode().partition(":")
    except UnicodeDecodeError:
        return PasswordLine(number, "", "", Fault.NOT_UTF8)
    if not colon or not user:
        return PasswordLine(number, "", "", Fault.NOT_USER_HASH)
    if _CONTROL.search(user):
        return PasswordLine(number, user, hashed, Fault.CONTROL)
    return PasswordLine(number, user, hashed, None if is_bcrypt(hashed) else Fault.NOT_BCRYPT)
