"""`Cleaner` cleans the data directory in a thread of a program that embeds the registry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from falcon.testing import TestClient

from entrepot import cleaner
from entrepot.cleaner import Cleaner, RetentionRule, RetentionRules
from entrepot.datastore.drivers.table import open_index
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
    """Return a function that starts an application with a cleaner.

    All these applications use the same data directory.
    """
    begun: list[Application] = []

    def start(keeper: Cleaner, **settings: object) -> Pushing:
        app = create_app(tmp_path, cleaner=keeper, **settings)  # type: ignore[arg-type]  # keywords of create_app
        begun.append(app)
        app.begin()
        index = open_index(tmp_path / "entrepot")
        eventually(lambda: not needs_rebuild(index.notes), what="the index is complete")
        return Pushing(tmp_path, TestClient(app), index)

    yield start
    for each in begun:
        each.close()


def _status(client: TestClient, path: str) -> int:
    return client.simulate_get(path).status_code


def _tag(pushing: Pushing, tag: str) -> int:
    return pushing.ask("GET", f"manifests/{tag}").status_code


def _is_gone(pushing: Pushing, tag: str) -> bool:
    """Return whether a tag was removed; read its file, because a request would count as a use."""
    return pushing.repositories.tag(Repository(NAME), Tag(tag)) is None


@pytest.mark.slow
def test_unused_hosted_images_expire_and_a_pull_keeps_them(begin: Begin) -> None:
    """If no client pulls a hosted image, the image expires with its tag, manifest and layers.

    A hosted image that a client pulls stays.
    """
    pushing = begin(Cleaner(ttl=1.0, hosted=True, every=0.2))
    pushing.image(_ONE, "used")
    pushing.image(_OTHER, "unused")

    eventually(
        lambda: _tag(pushing, "used") == 200 and _is_gone(pushing, "unused"),
        what="only the unused image is removed",
    )
    layer = Digest.of(_OTHER.layers[0])
    eventually(
        lambda: _tag(pushing, "used") == 200 and pushing.content(layer) is None,
        what="its layer is removed",
    )

    assert all(pushing.content(Digest.of(blob)) for blob in _ONE.blobs)


@pytest.mark.slow
def test_hosted_images_never_expire_by_default(begin: Begin) -> None:
    """By default, proxied content expires by the TTL, and hosted images do not."""
    with FakeUpstream() as u:
        digest = u.add_blob("library/app", b"from upstream")
        pushing = begin(Cleaner(ttl=0.5, every=0.2), upstreams={"one.test": u.url})
        pushing.image(_ONE)
        assert _status(pushing.client, f"/v2/one.test/library/app/blobs/{digest}") == 200

        eventually(lambda: pushing.content(digest) is None, what="the proxied blob is evicted")

    assert all(pushing.content(Digest.of(blob)) for blob in _ONE.blobs)
    assert _tag(pushing, "v1") == 200


def test_retention_rules_expire_hosted_images(begin: Begin) -> None:
    """If an embedding program passes retention rules, hosted images expire by these rules."""
    rules = RetentionRules([("team/**", RetentionRule(keep=1))])
    pushing = begin(Cleaner(rules=rules, every=0.2))
    pushing.image(_ONE, "v1", "other/app")
    pushing.image(_ONE, "v2", "other/app")
    pushing.image(_ONE, "v1")
    pushing.image(_OTHER, "v2")

    eventually(lambda: _is_gone(pushing, "v1"), what="the older tag is removed")

    assert _tag(pushing, "v2") == 200
    assert pushing.send("GET", "/v2/other/app/manifests/v1").status_code == 200


@pytest.mark.slow
def test_a_download_without_space_wakes_the_cleaner(begin: Begin) -> None:
    """If a download finds no space, it wakes the cleaner, which evicts the oldest content."""
    with FakeUpstream() as u:
        digests = [u.add_blob("library/app", images.filler(MB, seed)) for seed in range(12)]
        pushing = begin(Cleaner(max_size=8 * MB), upstreams={"one.test": u.url})
        for digest in digests:
            assert _status(pushing.client, f"/v2/one.test/library/app/blobs/{digest}") == 200

        eventually(lambda: pushing.content(digests[0]) is None, what="the first blob is evicted")
        eventually(
            lambda: (
                _status(pushing.client, f"/v2/one.test/library/app/blobs/{digests[-1]}") == 200
                and pushing.content(digests[-1])
            ),
            what="the last blob is stored",
        )

    assert pushing.index.reservations.used_bytes() < 10 * MB


@pytest.mark.slow
def test_one_process_cleans_and_another_takes_over(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When the application whose cleaner has the lock is closed, a second application cleans.

    Both applications use one data directory. In this test, they stand for two processes.
    """
    first = create_app(tmp_path, cleaner=Cleaner(ttl=0.5, hosted=True, every=0.2))
    first.begin()
    wake = tmp_path / "entrepot/cleaner.sock"
    eventually(wake.exists, what="the cleaner of the first application has the lock")
    second = begin(Cleaner(ttl=0.5, hosted=True, every=0.2))

    first.close()
    second.image(_ONE)

    eventually(lambda: _is_gone(second, "v1"), what="the image expires")
    assert "postponed" not in caplog.text


def test_the_cleaner_thread_ends_with_its_application(tmp_path: Path) -> None:
    """When an application is closed, its cleaner's threads end, and the wake socket is removed."""
    before = set(threading.enumerate())
    app = create_app(tmp_path, cleaner=Cleaner(ttl=1.0))
    app.begin()
    wake = tmp_path / "entrepot/cleaner.sock"
    eventually(wake.exists, what="the cleaner runs")

    app.close()

    eventually(lambda: set(threading.enumerate()) <= before, what="its threads have ended")
    assert not wake.exists()
    Cleaner().wake(0)  # A cleaner that was never started ignores the call.


def test_an_unknown_name_of_the_package_is_an_attribute_error() -> None:
    """The package `cleaner` loads its names lazily; an unknown name raises AttributeError."""
    with pytest.raises(AttributeError, match=r"'entrepot\.cleaner' has no attribute 'nothing'"):
        getattr(cleaner, "nothing")  # noqa: B009 - mypy would reject the name
