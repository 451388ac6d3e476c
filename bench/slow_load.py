"""A load generator whose many clients read a blob slowly.

`python -m bench.slow_load TASK` reads a task in JSON. When every client has a response or has
failed, the program prints a line of JSON with the number of clients that have a response. The
clients read until the standard input is closed, or for at most `longest` seconds. Then the program
prints the outcome in JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Any

from bench.wire import Broken, ask, length_in

_BEGINS_WITHIN_S = 15.0
_HEAD = 16 * 1024
_ROUND_S = 1.0
# The clients are divided into this many groups. In each second, each group reads once, one group
# after the other.
_STEPS = 20
_BUFFER = 64 * 1024


def main(task: dict[str, Any]) -> None:
    """Read slowly with all clients of the task, and print the outcome."""
    readers = [_begin(task) for _ in range(task["clients"])]
    reading = _reading(readers)
    print(json.dumps({"reading": len(reading)}), flush=True)
    received, cut = _read_slowly(reading, task["rate"], time.monotonic() + task["longest"])
    for reader in readers:
        reader.close()
    print(json.dumps({"bytes": received, "cut": cut}), flush=True)


def _begin(task: dict[str, Any]) -> socket.socket:
    """Request the blob over a connection with a small receive buffer.

    The buffer fills immediately. From then on, the server can send only as fast as the client
    reads.
    """
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    reader.settimeout(_BEGINS_WITHIN_S)
    reader.connect(("127.0.0.1", task["port"]))
    ask(reader, task["path"], task["headers"])
    reader.setblocking(False)
    return reader


def _reading(readers: list[socket.socket]) -> list[socket.socket]:
    """Wait until all clients have a response or the time limit passes; return those with a 200."""
    waiting, found = {each.fileno(): each for each in readers}, []
    poll = select.poll()
    for number in waiting:
        poll.register(number, select.POLLIN)
    deadline = time.monotonic() + _BEGINS_WITHIN_S
    while waiting and time.monotonic() < deadline:
        for number, _ in poll.poll(1000):
            poll.unregister(number)
            reader = waiting.pop(number)
            if _is_fine(reader):
                found.append(reader)
    return found


def _is_fine(reader: socket.socket) -> bool:
    try:
        return length_in(reader.recv(_HEAD).partition(b"\r\n\r\n")[0]) > 0
    except (OSError, Broken, ValueError):
        return False


def _read_slowly(readers: list[socket.socket], rate: int, deadline: float) -> tuple[int, int]:
    """Read *rate* bytes/s with each client until *deadline*.

    Return the number of bytes, and the number of clients whose connection was closed.
    """
    received, ended = 0, set[socket.socket]()
    while time.monotonic() < deadline:
        for step in range(_STEPS):
            if select.select([sys.stdin], [], [], _ROUND_S / _STEPS)[0]:
                return received, len(ended)
            for reader in readers[step::_STEPS]:
                if reader not in ended:
                    count = _read_available(reader, rate)
                    received += count
                    ended |= {reader} if count < 0 else set()
    return received, len(ended)


def _read_available(reader: socket.socket, most: int) -> int:
    """Read at most *most* bytes without waiting, and return their number.

    Return 0 if no bytes have arrived, and -1 if the connection is closed.
    """
    try:
        return len(reader.recv(most)) or -1
    except BlockingIOError:
        return 0
    except OSError:
        return -1


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
