"""Make lines of the access log and of the events file as HAProxy and the workers write them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from entrepot.datastore.accesslog import AccessLine, Event
from entrepot.datastore.refs import Digest

BLOB = AccessLine(
    start=1_000_000_000_000,
    duration=20,
    method="GET",
    status=200,
    termination="--",
    bytes=1000,
    digest=str(Digest.of(b"a")),
    repository="quay.io/podman/hello",
    kind="blob",
    cache="entrepot; hit",
    user="",
    source="127.0.0.1",
    uri="/v2/quay.io/podman/hello/blobs/x",
)


def answer(**fields: Any) -> AccessLine:
    """Return the line `BLOB` of the access log with changed fields."""
    return replace(BLOB, **fields)


def probe(news: str) -> AccessLine:
    """Return the line of the request with which the cleaner waits for the logger."""
    fields = {"kind": "", "digest": "", "repository": "", "cache": "", "source": "unix"}
    return answer(uri=f"/healthz?news={news}", **fields)


def written(line: AccessLine) -> bytes:
    """Return a line of the access log as bytes, in the form in which HAProxy writes it."""
    return json.dumps(asdict(line), separators=(",", ":")).replace("/", "\\/").encode()


def event(name: str, at: float = 1000, **fields: Any) -> bytes:
    """Return a line of the events file as bytes."""
    made = Event(name, at, fields)
    return json.dumps({"event": made.name, "at": made.at, **made.fields}).encode()
