"""The files that settings name: none is forgotten, and all can be had elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.files import moved, named_files
from tests.config.desk import Desk

_ALL = (
    "--pullsecret.path=/given/secret",
    "--auth.htpasswd.path=/given/htpasswd",
    "--http.tls.certificate=/given/certificate",
    "--http.tls.key=/given/key",
    "--upstreams.a.io.passwordfile=/given/password",
    "--upstreams.a.io.username=robot",
    "--upstreams.a.io.ca=/given/ca",
    "--upstreams.b.io.ca=/given/ca",
)


def test_every_file_that_is_named_is_listed_once(desk: Desk) -> None:
    """Whoever adds a setting that names a file adds it to the list: else root alone reads it."""
    settings = desk.settings(*_ALL)

    given = {path for path in _paths(settings.model_dump()) if path.is_relative_to("/given")}
    assert sorted(given) == sorted(named_files(settings))
    assert len(given) == 6


def test_a_configuration_file_that_is_followed_is_listed(desk: Desk) -> None:
    """Rights and users are read from it again, by who serves."""
    desk.write("version: 0.1\nauth: {htpasswd: {path: /given/htpasswd}}\n")
    settings = desk.settings()

    assert named_files(settings) == [Path("/given/htpasswd"), desk.file]
    assert moved(settings, {desk.file: Path("/copy")}).followed.file == Path("/copy")


def test_what_is_not_named_is_not_listed(desk: Desk) -> None:
    """Most settings name no file at all."""
    assert named_files(desk.settings()) == []


def test_files_are_moved_and_nothing_else_is(desk: Desk) -> None:
    """A file that has no other place stays where it is."""
    settings = desk.settings(*_ALL, "--cleaner.maxsize=5G")
    places = {path: Path("/copies") / path.name for path in named_files(settings)}
    stays = places.pop(Path("/given/key"))

    found = moved(settings, places)

    assert sorted([*places.values(), Path("/given/key")]) == sorted(named_files(found))
    assert stays not in named_files(found)
    assert moved(found, {there: here for here, there in places.items()}) == settings


def test_settings_without_files_are_moved_to_themselves(desk: Desk) -> None:
    """No password file is not one at a strange place."""
    settings = desk.settings()

    assert moved(settings, {}) == settings


def _paths(document: Any) -> Iterator[Path]:
    """Yield every path in a dump, however deep."""
    if isinstance(document, Path):
        yield document
    elif isinstance(document, dict):
        for each in document.values():
            yield from _paths(each)
