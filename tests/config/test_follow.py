"""What of the configuration file is followed while we run."""

from __future__ import annotations

import pytest

from config.access import AccessRule
from config.errors import ConfigError
from config.follow import Rights, read_rights, rights
from tests.config.desk import Desk
from tests.config.test_access import HASH

_TEXT = f"""
auth: {{htpasswd: {{users: {{ann: {HASH}}}}}}}
access: [{{user: ann, repository: a, allow: pull}}]
"""


def test_the_file_says_later_what_it_said_at_the_start(desk: Desk) -> None:
    """One reader of rules and users, whenever it is asked."""
    desk.write(_TEXT)

    assert rights(desk.settings()) == read_rights(desk.file.read_bytes(), desk.file)


def test_what_the_file_does_not_say_is_not_there(desk: Desk) -> None:
    """Which is not the same as empty."""
    assert Rights(None, None) == read_rights(b"log: {level: debug}", desk.file)
    text = b"access: []\nauth: {htpasswd: {users: {}}}"
    assert Rights((), {}) == read_rights(text, desk.file)


def test_what_else_is_wrong_with_the_file_does_not_matter(desk: Desk) -> None:
    """A right can be taken away beside it; other settings are read at the next start."""
    text = b"cleaner: {maxsize: 10X}\naccess: [{user: ann, repository: a, allow: pull}]"

    assert read_rights(text, desk.file).access == (AccessRule(("ann",), ("a",), ("pull",)),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("access: [", "config.yml:1: not YAML: "),
        ("\naccess: [{user: ann}]", "config.yml:2: access=[...]: rule 1: repository: none"),
        ("auth: {htpasswd: {users: {ann: sesame}}}", "config.yml:1: auth.htpasswd.users=***: "),
        ("access: []\naccess: []", "config.yml:2: access: said before, in line 1"),
    ],
)
def test_an_edit_that_cannot_be_read_is_told_by_its_line(
    desk: Desk, text: str, expected: str
) -> None:
    """As at the start."""
    with pytest.raises(ConfigError) as caught:
        read_rights(text.encode(), desk.file)

    assert str(caught.value).replace(f"{desk.file.parent}/", "").startswith(expected)
    assert "sesame" not in str(caught.value)


def test_only_what_the_file_decides_is_followed(desk: Desk) -> None:
    """A flag or a variable goes on to win; without passwords there is nothing to follow."""
    desk.write(_TEXT)
    flag = "--access=[{user: bob, repository: b, allow: pull}]"

    assert _followed(desk) == (True, True)
    assert _followed(desk, flag) == (False, True)
    assert _followed(desk, f"--auth.htpasswd.users={{bob: {HASH}}}") == (True, False)
    desk.write("log: {level: info}")
    assert _followed(desk, "--auth.htpasswd.path=/p") == (True, True)
    assert _followed(desk) == (False, False)


def _followed(desk: Desk, *flags: str) -> tuple[bool, bool]:
    followed = desk.settings(*flags).followed
    assert followed.file in {None, desk.file}
    return followed.access, followed.users
