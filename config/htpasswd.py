"""Says what is wrong with a password file: only bcrypt is taken, as docker distribution does."""

from __future__ import annotations

from collections.abc import Iterator

from config.errors import Problem
from runtime.htpasswd import Fault, Line, lines
from runtime.htpasswd import is_bcrypt as is_bcrypt

REMEDY = "write it with htpasswd -B"


def htpasswd_problems(content: bytes, source: str) -> list[Problem]:
    """Tell each line that is no user with a bcrypt hash; *source* starts each line about it."""
    return list(_problems(content, source))


def has_users(content: bytes) -> bool:
    """Return whether a password file has a line that is not empty and no comment."""
    return any(
        each and not each.startswith(b"#") for each in map(bytes.strip, content.split(b"\n"))
    )


def _problems(content: bytes, source: str) -> Iterator[Problem]:
    for line in lines(content):
        if line.fault is not None:
            yield Problem(f"{source}:{line.number}", _told(line), REMEDY)


def _told(line: Line) -> str:
    match line.fault:
        case Fault.NOT_UTF8:
            return "not UTF-8 text"
        case Fault.CONTROL:
            return "a control character in the user's name"
        case Fault.NOT_BCRYPT:
            return f"the password of {line.user!r} is not bcrypt"
    return "not user:hash"
