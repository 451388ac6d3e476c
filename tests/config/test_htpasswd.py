"""Only bcrypt is taken."""

from __future__ import annotations

import bcrypt
import pytest

from config.htpasswd import htpasswd_problems

_HASH = "abcdefghijklmnopqrstuv0123456789ABCDEFGHIJKLMNOPQRSTU"


@pytest.mark.parametrize("prefix", ["$2y$", "$2b$", "$2a$"])
@pytest.mark.parametrize("cost", ["04", "10", "31"])
def test_bcrypt_is_taken_under_each_of_its_names(prefix: str, cost: str) -> None:
    """Apache's, OpenBSD's and the old one."""
    assert htpasswd_problems(f"me:{prefix}{cost}${_HASH}\n".encode(), "file") == []


def test_what_bcrypt_writes_is_taken() -> None:
    """The form is not of our own making."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4))

    assert htpasswd_problems(b"me:" + hashed + b"\r\n", "file") == []


def test_empty_lines_and_comments_are_passed_over() -> None:
    """And a file without users lets nobody in, which is no mistake yet."""
    assert htpasswd_problems(b"\n# nobody\n  \n", "file") == []


@pytest.mark.parametrize(
    "password",
    [
        "$apr1$abcdefgh$0123456789abcdefghijkl",
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "$5$salt$hash",
        "plain",
        "",
        f"$2x$10${_HASH}",
        f"$2y$03${_HASH}",
        f"$2y$32${_HASH}",
        f"$2y$10${_HASH[:-1]}",
        f"$2y$10${_HASH}x",
    ],
)
def test_another_hash_is_told_with_its_line(password: str) -> None:
    """The user is named, the hash is not."""
    content = f"good:$2y$10${_HASH}\n\nbob:{password}\n".encode()

    (problem,) = htpasswd_problems(content, "/h")
    assert str(problem) == "/h:3: the password of 'bob' is not bcrypt; write it with htpasswd -B"


@pytest.mark.parametrize("line", ["nobody", ":hash", "x" * 500])
def test_a_line_that_is_no_user_is_told(line: str) -> None:
    """With its number alone: it may be a password."""
    (problem,) = htpasswd_problems(f"{line}\n".encode(), "/h")

    assert str(problem) == "/h:1: not user:hash; write it with htpasswd -B"


def test_every_line_is_told() -> None:
    """Not only the first."""
    found = htpasswd_problems(b"a:x\nb:y\n", "/h")

    assert [each.source for each in found] == ["/h:1", "/h:2"]


def test_what_is_no_text_is_told() -> None:
    """A folder's worth of anything may be mounted."""
    assert [each.message for each in htpasswd_problems(b"\xff\xfe", "/h")] == ["not UTF-8 text"]
