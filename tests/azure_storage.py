"""Opens the storage driver `azure` on a test server, for an appliance that owns the container."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from entrepot.datastore.drivers.objects.setup import parts_of
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.drivers.table import Parameters
from tests.s3_storage import Held

ACCOUNT: Final = "devstoreaccount1"
KEY: Final = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""The account and the key of Azure's storage emulators, which Microsoft publishes."""


def parameters(url: str, state: Path, **others: object) -> Parameters:
    """Return the section `storage.azure` for the server at *url*; *others* replaces some keys."""
    return {
        "accountname": ACCOUNT,
        "accountkey": KEY,
        "container": "images",
        "credentials": {"type": "shared_key", "clientid": None, "tenantid": None, "secret": None},
        "realm": "core.windows.net",
        "rootdirectory": "",
        "serviceurl": url,
        "skipverify": False,
        "ca": None,
        "statedir": state,
        **others,
    }


def always_owned(url: str, state: Path, **others: object) -> ObjectStorage:
    """Return a storage that owns its empty container, although no blob there names an owner."""
    parts = parts_of("azure", parameters(url, state, **others), time.time)
    return ObjectStorage(parts.client, parts.journal, Held())
