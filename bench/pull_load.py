"""A load generator that pulls one image as dockerd does.

It sends HEAD and GET for the manifest, and then gets three blobs at a time. Each of three threads
uses one persistent connection and verifies digests. `python -m bench.pull_load TASK` reads a task
in JSON and prints the outcome in JSON.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.content import digest_of

_AT_A_TIME = 3
_PIECE = 1024 * 1024
_TIMEOUT_S = 60.0


class _Client:
    """A client that pulls from one repository, over one connection for each thread."""

    def __init__(self, port: int, repository: str) -> None:
        self._port = port
        self._repository = repository
        self._own = threading.local()

    def manifest(self, accept: str) -> tuple[int, list[str]]:
        """Pull the manifest; return its size, and the digests of its config and its layers."""
        headers = {"Accept": accept}
        answer = self._ask("HEAD", "manifests/latest", headers)
        answer.read()
        digest = answer.headers["Docker-Content-Digest"]
        body = self._ask("GET", f"manifests/{digest}", headers).read()
        if digest_of(body) != digest:
            raise ValueError("the manifest has a wrong digest")
        document = json.loads(body)
        parts = [document["config"], *document["layers"]]
        return len(body), [str(part["digest"]) for part in parts]

    def blob(self, digest: str) -> int:
        """Pull a blob and verify its digest; return its size."""
        answer = self._ask("GET", f"blobs/{digest}", {})
        running, size = hashlib.sha256(), 0
        while piece := answer.read(_PIECE):
            running.update(piece)
            size += len(piece)
        if f"sha256:{running.hexdigest()}" != digest:
            raise ValueError(f"the content of blob {digest} has another digest")
        return size

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        connection = self._connection()
        connection.request(method, f"/v2/{self._repository}/{path}", headers=dict(headers))
        answer = connection.getresponse()
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"{method} {path} returned {answer.status}")
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=_TIMEOUT_S
            )
        connection: http.client.HTTPConnection = self._own.connection
        return connection


def main(task: dict[str, Any]) -> dict[str, float]:
    """Pull the image of the task, and return the outcome."""
    client = _Client(task["port"], task["prefix"] + task["repository"])
    began = time.monotonic()
    size, digests = client.manifest(task["accept"])
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        sizes = list(pool.map(client.blob, digests))
    return {
        "requests": 2 + len(sizes),
        "seconds": time.monotonic() - began,
        "bytes": size + sum(sizes),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
