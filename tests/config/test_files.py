"""Test `named_files`, which lists the files in the settings, and `moved`, which replaces paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrepot.config.files import moved, named_files
from tests.config.config_folder import ConfigFolder

_ALL = (
    "--pullsecret.path=/given/secret",
    "--auth.htpasswd.path=/given/htpasswd",
    "--storage.s3.bucket=images",
    "--storage.s3.region=eu-central-1",
    "--storage.s3.ca=/given/s3-ca",
    "--http.tls.certificate=/given/certificate",
    "--http.tls.key=/given/key",
    "--upstreams.a.io.passwordfile=/given/password",
    "--upstreams.a.io.username=robot",
    "--upstreams.a.io.ca=/given/ca",
    "--upstreams.b.io.ca=/given/ca",
)


def test_every_file_of_the_settings_is_listed_once(config_folder: ConfigFolder) -> None:
    """`named_files` lists each file of the settings, and none of them twice.

    The service user gets access to the listed files only, so `named_files` must list the file of
    every new setting.
    """
    settings = config_folder.settings(*_ALL)

    given = {path for path in _paths(settings.values()) if path.is_relative_to("/given")}
    assert sorted(given) == sorted(named_files(settings))
    assert len(given) == 7


def test_a_configuration_file_that_is_reread_is_listed(config_folder: ConfigFolder) -> None:
    """The list has the configuration file, because workers read its rules and users again."""
    config_folder.write("version: 0.1\nauth: {htpasswd: {path: /given/htpasswd}}\n")
    settings = config_folder.settings()

    assert named_files(settings) == [Path("/given/htpasswd"), config_folder.file]
    assert moved(settings, {config_folder.file: Path("/copy")}).followed.file == Path("/copy")


def test_without_files_in_the_settings_the_list_is_empty(config_folder: ConfigFolder) -> None:
    """Settings that name no file have an empty list of files."""
    assert named_files(config_folder.settings()) == []


def test_only_the_paths_of_files_are_replaced(config_folder: ConfigFolder) -> None:
    """Only the paths of files are replaced; a file without a replacement keeps its path."""
    settings = config_folder.settings(*_ALL, "--cleaner.maxsize=5G")
    places = {path: Path("/copies") / path.name for path in named_files(settings)}
    stays = places.pop(Path("/given/key"))

    found = moved(settings, places)

    assert sorted([*places.values(), Path("/given/key")]) == sorted(named_files(found))
    assert stays not in named_files(found)
    assert moved(found, {there: here for here, there in places.items()}) == settings


def test_settings_without_files_stay_equal(config_folder: ConfigFolder) -> None:
    """`moved` does not change settings without files: no path is made from None."""
    settings = config_folder.settings()

    assert moved(settings, {}) == settings


def _paths(document: Any) -> Iterator[Path]:
    """Yield every path in a dump of settings, at any depth."""
    if isinstance(document, Path):
        yield document
    elif isinstance(document, dict):
        for each in document.values():
            yield from _paths(each)
