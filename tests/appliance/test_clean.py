"""`entrepot gc`: the cleaner by hand, as docker distribution's operators call it."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.__main__ import main
from datastore import layout
from datastore.filesystem import Filesystem
from datastore.refs import Digest, Repository
from datastore.repositories import Repositories
from tests import images

_OLD = 1_000_000_000.0


@pytest.fixture
def untagged(tmp_path: Path) -> Digest:
    """Return a manifest that was pushed long ago and lost its tag, in a data directory here."""
    storage = Filesystem(tmp_path)
    body, _ = images.index([])
    digest = Digest.of(body)
    storage.write(layout.blob(digest), body)
    Repositories(storage).link_manifest(Repository("team/app"), digest)
    for key in (layout.blob(digest), layout.revision_link(Repository("team/app"), digest)):
        storage.stamp(key, _OLD)
    return digest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["gc", "--dry-run"], "0 to go"),
        (["gc", "--dry-run", "--delete-untagged"], "1 to go"),
        (["garbage-collect", "-d", "-m"], "1 to go"),
        (["gc"], "0 gone"),
    ],
    ids=" ".join,
)
def test_it_tells_what_goes_and_takes_only_what_was_asked_for(
    tmp_path: Path, untagged: Digest, capfd: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """On stdout, a line for all at the end; nobody serves."""
    assert main([*words, f"--storage.filesystem.rootdirectory={tmp_path}"]) == 0

    assert capfd.readouterr().out.splitlines()[-1].startswith(told)
    assert (tmp_path / layout.blob(untagged)).exists()


def test_what_the_index_never_saw_used_is_old_from_its_first_day(
    tmp_path: Path, untagged: Digest, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who asks for it by hand means what he has."""
    assert main(["gc", "-m", f"--storage.filesystem.rootdirectory={tmp_path}"]) == 0

    assert str(untagged) in capfd.readouterr().out
    assert not (tmp_path / layout.blob(untagged)).exists()
