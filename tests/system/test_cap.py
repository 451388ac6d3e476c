"""The data directory never grows beyond its cap, and no pull fails because of the cap.

The sizes in these tests are small by default, and ten times larger in `make soak`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import Image, filler
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.datadir import SizeSampler
from tests.system.images import MB, of_size, scaled
from tests.system.pulls import Reader, blob_path, end_all, pull, pull_blob
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

IMAGE = scaled(2 * MB, 20 * MB)
IMAGES = 25
MAXIMUM = scaled(20 * MB, 200 * MB)
CAP = MAXIMUM * 120 // 100
NAME = "one.test/app"
BOUNDED = {"CLEANER_MAXSIZE": str(MAXIMUM), "CLEANER_RUNEVERY_TIME": "1s"}
FAVOURITE = 0


@dataclass(frozen=True, slots=True)
class Filled:
    """An appliance after pulls of more than its cap.

    `used` has the numbers of the images; the number of the last used image is at the end.
    """

    appliance: Appliance
    images: list[Image]
    used: list[int]
    largest: int
    samples: int

    def holds(self, number: int) -> bool:
        """Return True if the data directory has the layer that belongs only to this image."""
        return _is_here(self.appliance, _own_layer(self.images[number]))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Pull images whose sizes add up to 2.5 times the maximum size.

    The first image is pulled again after every second image.
    """
    folder = tmp_path_factory.mktemp("cap")
    with FakeUpstream() as fake:
        images = [fake.put_image("app", f"v{n}", of_size(IMAGE, 200 + n)) for n in range(IMAGES)]
        setup = Setup({"one.test": {"url": fake.url}}, environment=BOUNDED)
        with Appliance(folder, setup) as appliance, SizeSampler(appliance.data) as sampler:
            used = _pull_all(appliance, images)
            yield Filled(appliance, images, used, sampler.largest, sampler.samples)


def test_the_data_directory_is_never_above_its_cap(filled: Filled) -> None:
    """The data directory never exceeds its cap, even if clients pull far more content.

    The test adds up the sizes of all files every 50 ms.
    """
    assert filled.samples > 10
    assert MAXIMUM // 2 < filled.largest <= CAP


def test_what_was_used_last_is_what_is_left(filled: Filled) -> None:
    """After evictions only the most recently used images are still stored."""
    left = [number for number in filled.used if filled.holds(number)]

    assert filled.used[-len(left) :] == left
    assert len(left) * IMAGE >= MAXIMUM // 2


def test_an_image_that_was_used_in_between_survives(filled: Filled) -> None:
    """Of the images pulled first, only the one that clients pulled again later is still stored."""
    assert filled.holds(FAVOURITE)
    assert not filled.holds(1)
    assert not filled.holds(2)


def test_an_evicted_image_pulls_again(filled: Filled) -> None:
    """If a client pulls an evicted image, the appliance fetches it from the upstream again."""
    assert not filled.holds(1)

    digests = pull(filled.appliance.http, NAME, "v1")

    assert filled.images[1].digest == digests[0]


def test_a_layer_larger_than_the_cap_pulls(start: Start, fake: FakeUpstream) -> None:
    """A layer larger than the cap is sent to the client without being stored.

    The data directory stays within the cap during such a pull.
    """
    digest = fake.add_blob("app", filler(CAP + MB, 70))
    kept = fake.put_image("app", "v1", of_size(IMAGE, 71))
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=BOUNDED))
    pull(appliance.http, NAME, "v1")

    with SizeSampler(appliance.data) as sampler:
        content = pull_blob(appliance.http, NAME, digest)

    assert len(content) == CAP + MB
    assert sampler.largest <= CAP
    assert not _is_here(appliance, digest)
    assert _is_here(appliance, _own_layer(kept))


def test_three_clients_of_a_layer_larger_than_the_cap_all_get_it(
    start: Start, fake: FakeUpstream
) -> None:
    """Three clients pull a layer larger than the cap; no pull fails for lack of space."""
    digest = fake.add_blob("app", filler(CAP + MB, 72))
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=BOUNDED))

    with SizeSampler(appliance.data) as sampler:
        readers = [Reader(appliance.http, blob_path(NAME, digest)).begin() for _ in range(3)]
        end_all(readers)

    assert all(reader.has(digest) for reader in readers)
    assert sampler.largest <= CAP


def test_the_unused_goes_and_the_used_stays_while_pulls_go_on(
    start: Start, fake: FakeUpstream
) -> None:
    """The cleaner evicts an image `CLEANER_TTL` after its last use, while other pulls succeed."""
    used = fake.put_image("app", "used", of_size(MB, 73))
    unused = fake.put_image("app", "unused", of_size(MB, 74))
    ttl = {"CLEANER_TTL": "3s", "CLEANER_RUNEVERY_TIME": "1s"}
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=ttl))
    pull(appliance.http, NAME, "unused")

    def is_gone() -> bool:
        pull(appliance.http, NAME, "used")
        return not any(_is_here(appliance, Digest.of(blob)) for blob in unused.blobs)

    eventually(is_gone, what="the unused image is evicted", within=30)

    assert all(_is_here(appliance, Digest.of(blob)) for blob in used.blobs)
    assert fake.count("GET", f"/blobs/{_own_layer(used)}") == 1
    assert unused.digest == pull(appliance.http, NAME, "unused")[0]


def _pull_all(appliance: Appliance, images: list[Image]) -> list[int]:
    """Pull all images, and FAVOURITE after every second image; return the value for `Filled.used`.

    A pull is repeated until its image is stored. If the first attempt finds no space, the image is
    passed through unstored, and the cleaner evicts other images.
    """
    used: list[int] = []
    for number in range(IMAGES):
        for each in (number, FAVOURITE) if number % 2 else (number,):
            eventually(partial(_is_stored, appliance, each, images), what="the image is stored")
            used = [before for before in used if before != each] + [each]
    return used


def _is_stored(appliance: Appliance, number: int, images: list[Image]) -> bool:
    pull(appliance.http, NAME, f"v{number}")
    return _is_here(appliance, _own_layer(images[number]))


def _own_layer(image: Image) -> Digest:
    return Digest.of(image.layers[-1])


def _is_here(appliance: Appliance, digest: Digest) -> bool:
    return (appliance.data / layout.blob(digest)).exists()
