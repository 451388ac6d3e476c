"""Validate a password file. Only bcrypt hashes are accepted, as in docker distribution."""

from __future__ import annotations

from collections.abc import Iterator

from entrepot.config.errors import Problem
from entrepot.runtime.htpasswd import Fault, PasswordLine, lines
from entrepot.runtime.htpasswd import is_bcrypt as is_bcrypt

REMEDY = "write the file with htpasswd -B"


def htpasswd_problems(content: bytes, source: str) -> list[Problem]:
    """Return a problem for each line of a password file that is not a user with a bcrypt hash.

    Each message begins with *source* and the number of the line.
    """
    return list(_problems(content, source))


def has_users(content: bytes) -> bool:
    """Return whether a password file has a line that is neither empty nor a comment."""
    return any(
        each and not each.startswith(b"#") for each in map(bytes.strip, content.split(b"\n"))
    )


def _problems(content: bytes, source: str) -> Iterator[Problem]:
    for line in lines(content):
        if line.fault is not None:
            yield Problem(f"{source}:{line.number}", _message(line), REMEDY)


def _message(line: PasswordLine) -> str:
    match line.fault:
        case Fault.NOT_UTF8:
            return "not UTF-8 text"
        case Fault.CONTROL:
            return "a control character in the user's name"
        case Fault.NOT_BCRYPT:
            return f"the password of {line.user!r} is not bcrypt"
    return "not user:hash"
