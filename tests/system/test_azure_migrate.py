"""Tests `entrepot migrate` from a disk to Azure, from Azure to S3, and from S3 to a disk."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from entrepot.appliance.__main__ import main
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.index import IndexEntry
from tests.appliance.migrate.sides import NOW, contents, on_disk, times
from tests.azure_storage import ACCOUNT, KEY
from tests.azurite import Azurite
from tests.cleaner.stock import pull, push, put_blob
from tests.images import filler
from tests.s3_front import S3Front
from tests.s3_storage import configured

pytestmark = pytest.mark.soak

_LONG = 25 * 1024 * 1024


@pytest.fixture
def source(tmp_path: Path) -> DataDirectory:
    """Return a data directory with images, and with a blob that is uploaded in several parts."""
    store = on_disk(tmp_path / "source")
    for seed in range(5):
        push(store, seed, NOW - 86400 * 400 - seed)
        pull(store, seed + 5, NOW - 86400 * 500 - seed)
    put_blob(store, filler(_LONG, 20), NOW - 86400 * 600)
    store.index.close()
    return store


def _file(folder: Path, name: str, storage: dict[str, Any]) -> str:
    path = folder / f"{name}.yml"
    state = {"statedir": str(folder / f"{name}-state")}
    path.write_text(yaml.safe_dump({"version": 0.1, "storage": {**storage, **state}}))
    return str(path)


def _rows(store: DataDirectory) -> list[tuple[IndexEntry, object]]:
    return [(each, store.index.children(each.digest)) for each in store.oldest()]


def test_content_passes_through_three_drivers_unchanged(
    source: DataDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Content and last uses survive migrations through the storages of three drivers."""
    with Azurite(tmp_path / "azurite") as azurite, S3Front() as s3:
        azure = {"accountname": ACCOUNT, "accountkey": KEY, "container": "images"}
        bucket = {
            **configured(s3),
            "chunksize": "5M",
        }
        sides = [
            str(tmp_path / "source"),
            _file(tmp_path, "azure", {"azure": {**azure, "serviceurl": azurite.url}}),
            _file(tmp_path, "s3", {"s3": bucket}),
            str(tmp_path / "back"),
        ]
        (tmp_path / "back").mkdir()
        for one, other in pairwise(sides):
            code = main(["migrate", "--json", one, other])
            report = json.loads(capsys.readouterr().out)
            assert (code, report["complete"]) == (0, True), report

    back = on_disk(tmp_path / "back")
    assert contents(back) == contents(source)
    assert _rows(back) == _rows(source)
    assert times(back) == pytest.approx(times(source), abs=0.01)
