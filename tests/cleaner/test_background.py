"""The cleaner as a thread beside an application that runs in the same process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from falcon.testing import TestClient

from entrepot import cleaner
from entrepot.cleaner import Cleaner, RetentionRule, RetentionRules
from entrepot.datastore import layout
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.rebuild import needs_rebuild
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.registry import Application, create_app
from tests import images
from tests.registry.push.pushing import NAME, Pushing
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

KB = 1024
MB = 1024 * KB
_ONE, _OTHER = images.image([images.filler(KB, 1)]), images.image([images.filler(KB, 2)])

Begin = Callable[..., Pushing]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begin applications below one folder, each with a cleaner; they end with the test."""
    begun: list[Application] = []

    def start(keeper: Cleaner, **said: object) -> Pushing:
        app = create_app(tmp_path, cleaner=keeper, **said)  # type: ignore[arg-type]  # as it says
        begun.append(app)
        app.begin()
        index = SqliteIndex(tmp_path / "entrepot" / layout.INDEX)
        eventually(lambda: not needs_rebuild(index), what="the index knows what is here")
        return Pushing(tmp_path, TestClient(app), index)

    yield start
    for each in begun:
        each.close()


def _status(client: TestClient, path: str) -> int:
    return client.simulate_get(path).status_code


def _tag(pushing: Pushing, tag: str) -> int:
    return pushing.ask("GET", f"manifests/{tag}").status_code


def _is_gone(pushing: Pushing, tag: str) -> bool:
    """Look at the disk: to ask for it would be a use."""
    return pushing.repositories.tag(Repository(NAME), Tag(tag)) is None


def test_what_was_pushed_goes_by_its_last_use_and_a_pull_renews_it(begin: Begin) -> None:
    """Tag, manifest and layers of the one that nobody pulled; the disk is free of it."""
    pushing = begin(Cleaner(ttl=1.0, hosted=True, every=0.2))
    pushing.image(_ONE, "wanted")
    pushing.image(_OTHER, "forgotten")

    eventually(
        lambda: _tag(pushing, "wanted") == 200 and _is_gone(pushing, "forgotten"),
        what="only the forgotten one is gone",
    )
    layer = Digest.of(_OTHER.layers[0])
    eventually(
        lambda: _tag(pushing, "wanted") == 200 and pushing.content(layer) is None,
        what="its layer is gone",
    )

    assert all(pushing.content(Digest.of(blob)) for blob in _ONE.blobs)


def test_what_was_pushed_stays_unless_it_is_said_to_go(begin: Begin) -> None:
    """What was pulled through can come back, and goes."""
    with FakeUpstream() as u:
        digest = u.add_blob("library/app", b"from upstream")
        pushing = begin(Cleaner(ttl=0.5, every=0.2), upstreams={"one.test": u.url})
        pushing.image(_ONE)
        assert _status(pushing.client, f"/v2/one.test/library/app/blobs/{digest}") == 200

        eventually(lambda: pushing.content(digest) is None, what="the pulled one is gone")

    assert all(pushing.content(Digest.of(blob)) for blob in _ONE.blobs)
    assert _tag(pushing, "v1") == 200


def test_rules_say_what_goes_of_what_was_pushed(begin: Begin) -> None:
    """As `hosted:` does: here, all but the newest tag of one namespace."""
    rules = RetentionRules([("team/**", RetentionRule(keep=1))])
    pushing = begin(Cleaner(rules=rules, every=0.2))
    pushing.image(_ONE, "v1", "other/app")
    pushing.image(_ONE, "v2", "other/app")
    pushing.image(_ONE, "v1")
    pushing.image(_OTHER, "v2")

    eventually(lambda: _is_gone(pushing, "v1"), what="the older tag is gone")

    assert _tag(pushing, "v2") == 200
    assert pushing.send("GET", "/v2/other/app/manifests/v1").status_code == 200


def test_room_is_made_for_whoever_needs_it(begin: Begin) -> None:
    """A download that finds none rings, and what was used longest ago goes."""
    with FakeUpstream() as u:
        digests = [u.add_blob("library/app", images.filler(MB, seed)) for seed in range(12)]
        pushing = begin(Cleaner(max_size=8 * MB), upstreams={"one.test": u.url})
        for digest in digests:
            assert _status(pushing.client, f"/v2/one.test/library/app/blobs/{digest}") == 200

        eventually(lambda: pushing.content(digests[0]) is None, what="the first is gone")
        eventually(
            lambda: (
                _status(pushing.client, f"/v2/one.test/library/app/blobs/{digests[-1]}") == 200
                and pushing.content(digests[-1])
            ),
            what="the last is here",
        )

    assert pushing.index.used_bytes() < 10 * MB


def test_one_process_cleans_and_another_takes_over(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two applications on one folder stand for two processes; the one that goes on is enough."""
    keeper = Cleaner(ttl=0.5, hosted=True, every=0.2)
    pushing = begin(Cleaner(ttl=0.5, hosted=True, every=0.2))
    other = create_app(tmp_path, cleaner=keeper)
    other.begin()
    wake = tmp_path / "entrepot/cleaner.sock"
    eventually(wake.exists, what="one of them cleans")

    other.close()
    pushing.image(_ONE)

    eventually(lambda: _is_gone(pushing, "v1"), what="it is gone")
    assert "put off" not in caplog.text


def test_it_ends_with_its_application(tmp_path: Path) -> None:
    """And leaves neither thread nor socket."""
    before = set(threading.enumerate())
    app = create_app(tmp_path, cleaner=Cleaner(ttl=1.0))
    app.begin()
    wake = tmp_path / "entrepot/cleaner.sock"
    eventually(wake.exists, what="it cleans")

    app.close()

    eventually(lambda: set(threading.enumerate()) <= before, what="its threads have ended")
    assert not wake.exists()
    Cleaner().wake(0)  # of one that never began, too


def test_what_it_has_not_is_an_ordinary_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match=r"'entrepot\.cleaner' has no attribute 'nothing'"):
        getattr(cleaner, "nothing")  # noqa: B009 - mypy knows it as well
