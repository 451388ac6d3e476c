"""Test `dump` and `resolved`, which pass the settings from `serve` to the other programs."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from entrepot.config.errors import ConfigError
from entrepot.config.handover import dump, resolved
from entrepot.runtime import run_names
from tests.config.config_folder import ConfigFolder


def test_the_settings_are_equal_after_the_handover(
    config_folder: ConfigFolder, tmp_path: Path
) -> None:
    """Settings that `serve` writes for the other programs are equal when a program reads them.

    Addresses, paths, spans, upstreams and passwords are among the compared settings.
    """
    config_folder.write(
        """
        auth: {htpasswd: {path: /h}}
        http: {addr: '[::1]:5000', tls: {certificate: /c, key: /k}}
        upstreams: {a.io: {username: u, password: p, mirrors: [m.io], freshness: 500ms}}
        """
    )
    settings = config_folder.settings("--cleaner.maxsize=200M", "--pullsecret.ignore=a b")
    path = tmp_path / "run/settings.json"
    path.parent.mkdir()
    dump(settings, path)
    read = resolved({"ENTREPOT_SETTINGS": str(path)})

    assert settings == read.changed(run=settings.run)
    assert path.parent == read.run


@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_the_settings_is_an_error(tmp_path: Path) -> None:
    """A command does not wait for a pipe that another program made in place of the settings."""
    path = tmp_path / run_names.SETTINGS
    os.mkfifo(path)

    with pytest.raises(ConfigError, match="no readable settings"):
        resolved({"ENTREPOT_SETTINGS": str(path)})


def test_only_the_owner_may_read_the_file(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """The settings file contains passwords, so only the owner of the file may read it.

    No temporary file of the settings remains after they are written.
    """
    path = tmp_path / "run/settings.json"
    path.parent.mkdir()
    dump(config_folder.settings(), path)
    dump(config_folder.settings(), path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path] == list(path.parent.iterdir())


def test_a_missing_folder_raises_oserror(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """If the run directory is gone, writing the settings raises OSError with the reason."""
    with pytest.raises(OSError, match="No such file"):
        dump(config_folder.settings(), tmp_path / "none/settings.json")


@pytest.mark.parametrize("content", [None, "", "[]", '{"version": "9"}', "\x00"])
def test_a_missing_or_invalid_settings_file_is_one_line(
    tmp_path: Path, content: str | None
) -> None:
    """A missing or invalid settings file causes an error of one line.

    The settings file is missing if an operator starts a program by hand.
    """
    path = tmp_path / run_names.SETTINGS
    if content is not None:
        path.write_text(content, encoding="utf-8")

    with pytest.raises(ConfigError, match="no readable settings; start `entrepot serve`"):
        resolved({"ENTREPOT_SETTINGS": str(path)})


def test_without_the_variable_there_are_no_settings() -> None:
    """Without ENTREPOT_SETTINGS `resolved` raises an error, and searches no other folder."""
    with pytest.raises(ConfigError, match="ENTREPOT_SETTINGS=: no readable settings"):
        resolved({})
