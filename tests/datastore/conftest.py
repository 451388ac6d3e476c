"""Define the fixtures of the S3 server with which the driver `s3` is tested."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3_front import S3Front


@pytest.fixture(scope="module")
def running() -> Iterator[S3Front]:
    """Run one S3 server for all tests of a file.

    The server accepts smaller parts of a multipart upload than S3 does, so that the tests send
    fewer bytes.
    """
    with S3Front(least_part=1024) as front:
        yield front


@pytest.fixture
def s3(running: S3Front) -> Iterator[S3Front]:
    """Return the S3 server with an empty bucket."""
    for key in running.keys(""):
        running.delete(key)
    running.forget()
    yield running
    running.forget()
