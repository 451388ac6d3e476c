"""Provide the fixture for the tests of clients of upstreams."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.upstream import FakeUpstream


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream without faults."""
    with FakeUpstream() as running:
        yield running
