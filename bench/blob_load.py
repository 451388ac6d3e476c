"""A load generator in which several clients get one blob at the same time and discard its bytes.

The clients compute no digest and write no file, because that would take CPU time from the server.
`python -m bench.blob_load TASK` reads a task in JSON and prints the outcome in JSON.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.address import trusting
from bench.wire import Broken, ask, connect, read_head, skip_body


def main(task: dict[str, Any]) -> dict[str, float]:
    """Get the blob with all clients of the task, and return the outcome."""
    context = trusting() if task["tls"] else None
    began = time.monotonic()
    with ThreadPoolExecutor(task["clients"]) as pool:
        got = list(pool.map(lambda _: _client(task, context), range(task["clients"])))
    whole = task["clients"] * task["times"]
    fine = sum(count for count, _ in got)
    return {
        "requests": whole,
        "seconds": time.monotonic() - began,
        "bytes": sum(size for _, size in got),
        "failures": whole - fine,
    }


def _client(task: dict[str, Any], context: ssl.SSLContext | None) -> tuple[int, int]:
    """Return the number of complete responses and the bytes of all responses."""
    fine = received = 0
    try:
        with connect(task["port"], context) as connection:
            for _ in range(task["times"]):
                ask(connection, task["path"], task["headers"])
                length, rest = read_head(connection)
                size = len(rest) + skip_body(connection, length - len(rest))
                received += size
                fine += size == task["size"]
    except (OSError, Broken) as error:
        print(error, file=sys.stderr)
    return fine, received


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
