"""Says what is wrong with a password file: only bcrypt is taken, as docker distribution does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from config.errors import Problem

# $2y$ is Apache's name for what OpenBSD calls $2b$ and PHP once called $2a$.
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
REMEDY = "write it with htpasswd -B"


def is_bcrypt(password: str) -> bool:
    """Say whether that is a bcrypt hash."""
    return _BCRYPT.fullmatch(password) is not None


def htpasswd_problems(content: bytes, source: str) -> list[Problem]:
    """Tell each line that is no user with a bcrypt hash; *source* starts each line about it."""
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        return [Problem(source, "not UTF-8 text", REMEDY)]
    return list(_problems(lines, source))


def has_users(content: bytes) -> bool:
    """Return whether a password file has a line that is not empty and no comment."""
    return any(
        each and not each.startswith(b"#") for each in map(bytes.strip, content.split(b"\n"))
    )


def _problems(lines: list[str], source: str) -> Iterator[Problem]:
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        user, colon, password = line.partition(":")
        where = f"{source}:{number}"
        if not colon or not user:
            yield Problem(where, "not user:hash", REMEDY)
        elif not is_bcrypt(password):
            yield Problem(where, f"the password of {user!r} is not bcrypt", REMEDY)
