"""A load generator that measures the time to the first byte of cold blobs.

Each blob is requested from a cache and from its upstream, over one persistent connection to each.
For every second blob, the upstream gets its request first. `python -m bench.first_load TASK` reads
a task in JSON and prints the outcome in JSON.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

from bench.wire import Broken, ask, connect, read_head, skip_body


def main(task: dict[str, Any]) -> dict[str, float]:
    """Request all blobs of the task, and return the outcome.

    The value `seconds` of the outcome is a median over all blobs: the time to the first byte from
    the cache, minus that from the upstream.
    """
    differences: list[float] = []
    failures = 0
    with connect(task["port"]) as cache, connect(task["upstream"]) as upstream:
        for number, (here, there) in enumerate(zip(task["paths"], task["theirs"], strict=True)):
            both = [(cache, here, 1), (upstream, there, -1)]
            try:
                difference = sum(
                    sign * first_byte(connection, path, task["headers"], task["size"])
                    for connection, path, sign in (both if number % 2 else reversed(both))
                )
            except (OSError, Broken) as error:
                print(error, file=sys.stderr)
                failures = len(task["paths"]) - number
                break
            differences.append(difference)
    return {
        "requests": len(differences),
        "seconds": statistics.median(differences) if differences else 0.0,
        "failures": failures,
    }


def first_byte(
    connection: socket.socket, path: str, headers: Mapping[str, str], size: int
) -> float:
    """Get a blob of *size* bytes; return the time from the request to its first byte (s).

    Raises: Broken if the response is incomplete; OSError.
    """
    began = time.perf_counter()
    ask(connection, path, headers)
    connection.recv(1, socket.MSG_PEEK)
    span = time.perf_counter() - began
    length, rest = read_head(connection)
    if len(rest) + skip_body(connection, length - len(rest)) != size:
        raise Broken(f"the body has {length} bytes")
    return span


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
