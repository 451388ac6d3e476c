"""Opens the storage driver `s3` on the test server S3Front, for an owner of the bucket."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from entrepot.datastore.drivers.objects.setup import BucketParts, parts_of
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.drivers.table import Parameters
from tests.s3_front import S3Front
from tests.s3_signatures import Account


def parameters(front: S3Front, state: Path, **others: object) -> Parameters:
    """Return the section `storage.s3` for the server *front*; *others* replaces some keys."""
    return {**keys_of(front.url, front.bucket, front.account, state), **others}


def configured(front: S3Front, **others: object) -> dict[str, object]:
    """Return a section `storage.s3` for *front*, as an operator writes it, with *others*."""
    return {
        "accesskey": front.account.key,
        "secretkey": front.account.secret,
        "region": front.account.region,
        "regionendpoint": front.url,
        "bucket": front.bucket,
        **others,
    }


def keys_of(url: str, bucket: str, account: Account, state: Path) -> dict[str, object]:
    """Return the keys of `storage.s3` for a bucket at *url*."""
    return {
        "accesskey": account.key,
        "secretkey": account.secret,
        "sessiontoken": None,
        "region": account.region,
        "regionendpoint": url,
        "forcepathstyle": True,
        "bucket": bucket,
        "rootdirectory": "",
        "encrypt": False,
        "keyid": None,
        "secure": True,
        "skipverify": False,
        "ca": None,
        "chunksize": 5 * 1024 * 1024,
        "storageclass": "STANDARD",
        "useragent": None,
        "usedualstack": False,
        "accelerate": False,
        "usefipsendpoint": False,
        "statedir": state,
    }


def owned(
    front: S3Front, state: Path, clock: Callable[[], float] = time.time, **others: object
) -> BucketParts:
    """Take the ownership of the bucket for an appliance, and return the driver's parts."""
    state.mkdir(parents=True, exist_ok=True)
    parts = parts_of("s3", parameters(front, state, **others), clock)
    assert parts.claim().renew()
    return parts


class Held:
    """A stand-in for the ownership of a bucket; this ownership is never lost."""

    def holds(self) -> bool:
        """Return True, because the ownership is never lost here."""
        return True


def always_owned(front: S3Front, state: Path, **others: object) -> ObjectStorage:
    """Return a storage that owns its empty bucket, although no object there names an owner."""
    parts = parts_of("s3", parameters(front, state, **others), time.time)
    return ObjectStorage(parts.client, parts.journal, Held())
