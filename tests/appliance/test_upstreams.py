"""What upstreams are named, and what they would hide."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from appliance.upstreams import hidden, upstream_names
from config.schema import Settings
from datastore.filesystem import Filesystem
from datastore.refs import Digest, Repository
from datastore.repositories import Repositories


def settings(root: Path, **environ: str) -> Settings:
    """Load settings with a data directory of their own."""
    return config.load([], {"REGISTRYDIR": str(root), **environ}).settings


def test_without_any_named_the_public_ones_are_told(tmp_path: Path) -> None:
    """A newcomer sees what he may pull from."""
    assert "docker.io" in upstream_names(settings(tmp_path))


@pytest.mark.parametrize("glob", [False, True], ids=["host", "glob"])
def test_an_upstream_that_would_hide_what_was_pushed_is_a_problem(
    tmp_path: Path,
    glob: bool,  # noqa: FBT001 - a case
) -> None:
    """It stops the start: a pull secret or a default must never take a pushed name away."""
    Repositories(Filesystem(tmp_path)).link_blob(Repository("a.example/team/app"), Digest.of(b""))
    secret = tmp_path / "secret.json"
    secret.write_text('{"auths": {"%s": {}}}' % ("*.example" if glob else "a.example"))
    told = settings(tmp_path, PULLSECRETPATH=str(secret))

    assert [each.source for each in hidden(told)] == ["a.example/team/app"]
    assert hidden(settings(tmp_path)) == []


def test_the_public_upstreams_of_a_secret_without_registries_hide_too(tmp_path: Path) -> None:
    """A repository that was pushed under quay.io's name is never answered from quay.io."""
    Repositories(Filesystem(tmp_path)).link_blob(Repository("quay.io/team/app"), Digest.of(b""))
    secret = tmp_path / "secret.json"
    secret.write_text('{"auths": {}, "credsStore": "desktop"}')
    found = settings(tmp_path, PULLSECRETPATH=str(secret))

    assert [each.source for each in hidden(found)] == ["quay.io/team/app"]
    assert "quay.io" in upstream_names(found)
