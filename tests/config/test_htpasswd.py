"""Test `htpasswd_problems`, which accepts only bcrypt hashes in a password file."""

from __future__ import annotations

import bcrypt
import pytest

from entrepot.config.htpasswd import htpasswd_problems

_HASH = "abcdefghijklmnopqrstuv0123456789ABCDEFGHIJKLMNOPQRSTU"


@pytest.mark.parametrize("prefix", ["$2y$", "$2b$", "$2a$"])
@pytest.mark.parametrize("cost", ["04", "10", "31"])
def test_each_bcrypt_prefix_is_valid(prefix: str, cost: str) -> None:
    """Each prefix of a bcrypt hash is valid: Apache writes 2y, OpenBSD 2b, older programs 2a."""
    assert htpasswd_problems(f"me:{prefix}{cost}${_HASH}\n".encode(), "file") == []


def test_a_hash_of_the_bcrypt_library_is_valid() -> None:
    """A hash of the bcrypt library matches the regular expression for password files."""
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4))

    assert htpasswd_problems(b"me:" + hashed + b"\r\n", "file") == []


def test_empty_lines_and_comments_are_ignored() -> None:
    """Empty lines and comments of a password file are ignored.

    A file without users is valid, although all logins fail.
    """
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
def test_another_hash_is_a_problem_with_its_line(password: str) -> None:
    """A hash that is not bcrypt is a problem with the user and the line, but without the hash."""
    content = f"good:$2y$10${_HASH}\n\nbob:{password}\n".encode()

    (problem,) = htpasswd_problems(content, "/h")
    assert (
        str(problem) == "/h:3: the password of 'bob' is not bcrypt; write the file with htpasswd -B"
    )


@pytest.mark.parametrize("line", ["nobody", ":hash", "x" * 500])
def test_a_line_without_a_user_is_a_problem(line: str) -> None:
    """For a line without a user, only its number is shown, because the line may be a password."""
    (problem,) = htpasswd_problems(f"{line}\n".encode(), "/h")

    assert str(problem) == "/h:1: not user:hash; write the file with htpasswd -B"


def test_every_invalid_line_is_a_problem() -> None:
    """Every invalid line of a password file is a problem, not only the first."""
    found = htpasswd_problems(b"a:x\nb:y\n", "/h")

    assert [each.source for each in found] == ["/h:1", "/h:2"]


def test_a_binary_file_is_a_problem() -> None:
    """A binary file in place of a password file is a problem; a mount can put any file there."""
    assert [each.message for each in htpasswd_problems(b"\xff\xfe", "/h")] == ["not UTF-8 text"]
