"""Open the driver `azure` on a server, as an appliance that owns the container opens it."""

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
"""The account and the key of Azure's emulators, which are public."""


def parameters(url: str, state: Path, **others: object) -> Parameters:
    """Return the keys of `storage.azure` for the server at *url*; *others* replace some."""
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
    """Return a storage that writes to an empty container, without a blob of an owner in it."""
    parts = parts_of("azure", parameters(url, state, **others), time.time)
    return ObjectStorage(parts.client, parts.journal, Held())
