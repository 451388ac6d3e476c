"""An appliance with `storage.azure` stores its content on the stand-in for Azure (AzureFront).

`test_azure.py` has more cases, on Microsoft's emulator, which only `make soak` installs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.azure_front import CONTAINER, AzureFront
from tests.azure_storage import ACCOUNT, KEY
from tests.system.appliance import Appliance, Setup
from tests.system.driver_checks import (
    SMALL,
    Check,
    check_delete,
    check_pull,
    check_push,
    check_ranges,
)
from tests.system.pushes import ALLOWED
from tests.upstream import FakeUpstream


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureFront]:
    """Run the stand-in for Azure for all tests of this file."""
    with AzureFront() as front:
        yield front


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream for all tests of this file."""
    with FakeUpstream() as fake:
        yield fake


def _setup(azure: AzureFront, upstream: FakeUpstream, data: Path, **others: object) -> Setup:
    keys: dict[str, Any] = {
        "accountname": ACCOUNT,
        "accountkey": KEY,
        "container": CONTAINER,
        "serviceurl": azure.url,
        **others,
    }
    storage = {**ALLOWED["storage"], "azure": keys, "redirect": {"disable": True}}
    return Setup(
        {"one.test": {"url": upstream.url}},
        {"storage": storage},
        {**SMALL, "REGISTRYDIR": "", "ENTREPOT_STATEDIR": str(data / "entrepot")},
        data=data,
    )


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, azure: AzureFront, upstream: FakeUpstream
) -> Iterator[Appliance]:
    """Run one appliance that has two workers and stores its content in the container."""
    folder = tmp_path_factory.mktemp("azure")
    with Appliance(folder, _setup(azure, upstream, folder / "data")) as running:
        yield running


@pytest.mark.parametrize(
    "check",
    [check_pull, check_ranges, check_push, check_delete],
    ids=lambda each: str(each.__name__),
)
def test_clients_are_served_from_a_container(
    appliance: Appliance, azure: AzureFront, upstream: FakeUpstream, check: Check
) -> None:
    """Pulls, ranges, pushes and deletions work with content in Azure; all requests are signed."""
    check(appliance, upstream)

    assert azure.refused == []


def test_a_container_that_refuses_requests_is_one_line(
    azure: AzureFront, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """If the container refuses requests, the appliance prints one line with a remedy.

    The exit code is 2.
    """
    setup = _setup(azure, upstream, tmp_path / "data", container="absent")
    appliance = Appliance(tmp_path / "appliance0", setup)

    assert appliance.launch().wait(timeout=120) == 2
    (line,) = [each for each in appliance.output().splitlines() if "storage.azure" in each]
    assert line.endswith("create the container, or correct storage.azure.container")
