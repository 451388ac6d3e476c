"""An appliance takes over the volume of a docker-registry proxy, or logs why it cannot."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.datadir import size
from tests.system.images import KB, MB, of_size
from tests.system.pulls import manifest_path, pull
from tests.system.registries import Registry
from tests.system.waiting import eventually

_MAXIMUM = 20 * MB
_BOUNDED = {"CLEANER_MAXSIZE": "20M", "CLEANER_RUNEVERY_TIME": "1s"}
_IMAGES = [of_size(8 * MB, 900 + number) for number in range(4)]
_NEW = of_size(200 * KB, 910)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Run a registry with four images of 8 MB and a small image."""
    with Registry(tmp_path_factory.mktemp("upstream")) as registry:
        for number, image in enumerate(_IMAGES):
            registry.push("lib/app", f"v{number}", image)
        registry.push("lib/new", "v1", _NEW)
        yield registry


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, upstream: Registry) -> Path:
    """Return the volume of a stopped docker-registry proxy that has fetched all four images."""
    folder = tmp_path_factory.mktemp("proxy")
    listed = folder / "storage" / layout.FETCHED_LIST
    settings = {"proxy": {"remoteurl": upstream.url}}
    with Registry(folder, settings=settings) as proxy:
        fetched = {
            str(digest)
            for number in range(len(_IMAGES))
            for digest in pull(proxy.http, "lib/app", f"v{number}")
        }

        # docker-registry writes its list of fetched content every five seconds
        def has_listed_all() -> bool:
            text = listed.read_text() if listed.exists() else ""
            return all(digest in text for digest in fetched)

        eventually(has_listed_all, what="the proxy has listed all fetched content", within=30)
    return folder / "storage"


@pytest.fixture
def volume(proxied: Path, tmp_path: Path) -> Path:
    """Return a copy of the volume, with the same file times."""
    return Path(shutil.copytree(proxied, tmp_path / "volume"))


def _setup(upstream: Registry, volume: Path, **environment: str) -> Setup:
    proxy = {"remoteurl": upstream.url}
    return Setup({}, {"proxy": proxy}, {**_BOUNDED, **environment}, data=volume)


def _is_cached(appliance: Appliance) -> bool:
    layer = Digest.of(_NEW.layers[0])
    pull(appliance.http, "lib/new", "v1")
    return (appliance.data / layout.blob(layer)).exists()


def test_the_volume_of_a_proxy_shrinks_and_caches(
    start: Start, upstream: Registry, volume: Path
) -> None:
    """An appliance takes over the volume and the settings of a docker-registry proxy.

    Old content is evicted, and new content is stored.
    """
    assert size(volume) > _MAXIMUM
    appliance = start(_setup(upstream, volume))

    eventually(lambda: size(volume) <= _MAXIMUM, what="the volume shrinks to its cap", within=20)
    eventually(lambda: _is_cached(appliance), what="new content is stored", within=10)
    assert appliance.http.get(manifest_path("lib/app", "v3")).status == 200
    assert "may be evicted repositories=1" in appliance.output()
    assert "can't shrink" not in appliance.output()
    assert appliance.metric("entrepot_unevictable_bytes") == 0


def test_a_volume_that_cannot_shrink_is_reported_with_the_setting(
    start: Start, upstream: Registry, volume: Path
) -> None:
    """Log, `status`, `check` and metrics report a volume that cannot shrink, and the remedy.

    In this volume the proxy's list of fetched content is missing. Without the list, the appliance
    treats all content as pushed, and does not evict it.
    """
    (volume / layout.FETCHED_LIST).unlink()
    appliance = start(_setup(upstream, volume))

    eventually(
        lambda: "the store can't shrink below its maximum size" in appliance.output(),
        what="a warning is logged",
        within=20,
    )
    # the pull succeeds, but its content is not stored
    assert not _is_cached(appliance)
    for text in (appliance.output(), *(appliance.entrepot(n).stdout for n in ("status", "check"))):
        assert "so they are not evicted" in text
        assert "CLEANER_TAKEOVER=evict" in text
    eventually(lambda: appliance.metric("entrepot_unevictable_bytes") > _MAXIMUM, what="a metric")
    appliance.stop()

    evicting = start(_setup(upstream, volume, CLEANER_TAKEOVER="evict"))

    eventually(lambda: size(volume) <= _MAXIMUM, what="the volume shrinks to its cap", within=20)
    eventually(lambda: _is_cached(evicting), what="new content is stored", within=10)
