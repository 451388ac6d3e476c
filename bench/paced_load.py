"""A load generator that sends requests at a steady rate over one connection.

A response time counts from the time at which the request was due. A request waits for the response
to the previous request, so a stall of the server lengthens the times of all requests that were due
during the stall. `python -m bench.paced_load TASK` reads a task in JSON and prints the outcome in
JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from bench.head_load import p99
from bench.wire import Broken, ask, connect, read_head, skip_body


def main(task: dict[str, Any]) -> dict[str, float]:
    """Send the requests of the task, and return the outcome."""
    asked = round(task["rate"] * task["seconds"])
    began, spans = time.perf_counter(), list[float]()
    try:
        with connect(task["port"]) as connection:
            for number in range(asked):
                due = began + number / task["rate"]
                time.sleep(max(due - time.perf_counter(), 0))
                ask(connection, task["path"], task["headers"])
                length, rest = read_head(connection)
                skip_body(connection, length - len(rest))
                spans.append(time.perf_counter() - due)
                if spans[-1] > task["patience"]:
                    break
    except (OSError, Broken) as error:
        print(error, file=sys.stderr)
    return {
        "requests": len(spans),
        "seconds": time.perf_counter() - began,
        "p99": p99(spans),
        "failures": asked - len(spans),
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
