"""Tests of the parts of the configuration file that take effect without a restart."""

from __future__ import annotations

import pytest

from entrepot.config.access import AccessRule
from entrepot.config.errors import ConfigError
from entrepot.config.follow import FollowedRights, read_rights, rights
from tests.config.config_folder import ConfigFolder
from tests.config.test_access import HASH

_TEXT = f"""
auth: {{htpasswd: {{users: {{ann: {HASH}}}}}}}
access: [{{user: ann, repository: a, allow: pull}}]
"""


def test_rereading_an_unchanged_file_gives_equal_rights(config_folder: ConfigFolder) -> None:
    """Rereading an unchanged file gives the same rights as the start."""
    config_folder.write(_TEXT)

    assert rights(config_folder.settings()) == read_rights(
        config_folder.file.read_bytes(), config_folder.file
    )


def test_absent_rules_and_users_are_none(config_folder: ConfigFolder) -> None:
    """Absent rules and users are None, which differs from an empty list."""
    assert FollowedRights(None, None) == read_rights(b"log: {level: debug}", config_folder.file)
    text = b"access: []\nauth: {htpasswd: {users: {}}}"
    assert FollowedRights((), {}) == read_rights(text, config_folder.file)


def test_problems_of_other_settings_are_ignored(config_folder: ConfigFolder) -> None:
    """A changed file's access rules apply even if other settings in the file are wrong.

    An operator must be able to revoke rights at once. The other settings are read only at the next
    start.
    """
    text = b"cleaner: {maxsize: 10X}\naccess: [{user: ann, repository: a, allow: pull}]"

    assert read_rights(text, config_folder.file).access == (
        AccessRule(("ann",), ("a",), ("pull",)),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("access: [", "config.yml:1: not YAML: "),
        ("\naccess: [{user: ann}]", "config.yml:2: access=[...]: rule 1: repository: none"),
        ("auth: {htpasswd: {users: {ann: sesame}}}", "config.yml:1: auth.htpasswd.users=***: "),
        ("access: []\naccess: []", "config.yml:2: access: already set in line 1"),
    ],
)
def test_an_invalid_edit_raises_an_error_with_its_line(
    config_folder: ConfigFolder, text: str, expected: str
) -> None:
    """An invalid change of the file raises the same error as at the start, with a line number."""
    with pytest.raises(ConfigError) as caught:
        read_rights(text.encode(), config_folder.file)

    assert str(caught.value).replace(f"{config_folder.file.parent}/", "").startswith(expected)
    assert "sesame" not in str(caught.value)


def test_only_values_that_come_from_the_file_are_reread(config_folder: ConfigFolder) -> None:
    """While the appliance runs, only values that came from the configuration file are read again.

    Flags and variables keep their values. Without passwords and tokens at the start, the file is
    not read again.
    """
    config_folder.write(_TEXT)
    flag = "--access=[{user: bob, repository: b, allow: pull}]"

    assert _followed(config_folder) == (True, True)
    assert _followed(config_folder, flag) == (False, True)
    assert _followed(config_folder, f"--auth.htpasswd.users={{bob: {HASH}}}") == (True, False)
    config_folder.write("log: {level: info}")
    assert _followed(config_folder, "--auth.htpasswd.path=/p") == (True, True)
    assert _followed(config_folder) == (False, False)


def _followed(config_folder: ConfigFolder, *flags: str) -> tuple[bool, bool]:
    followed = config_folder.settings(*flags).followed
    assert followed.file in {None, config_folder.file}
    return followed.access, followed.users
