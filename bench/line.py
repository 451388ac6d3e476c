"""Simulate a network line: a TCP proxy with a delay and a limited rate for each connection.

`python -m bench.line TASK` reads a task in JSON: the port `to`, `rate` in bytes/s, and `round_trip`
in seconds. It prints the port on which the proxy listens, and runs until it is killed. Each
direction delays bytes by half of the round trip, and a new connection takes one round trip more.
TCP's slow start and lost packets are not simulated.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_PIECE = 64 * 1024
_UNDER_WAY = 16  # the most chunks in transit at a time, in each direction of a connection


@dataclass(frozen=True, slots=True)
class Line:
    """A line with `rate` bytes/s and a `delay` (s) in each direction."""

    rate: float
    delay: float

    def leaves(self, now: float, size: int, busy_until: float) -> tuple[float, float]:
        """Return when *size* bytes arrive at the other side, and when the line is free again (s).

        Earlier bytes occupy the line until *busy_until*, so these bytes enter it only then.
        """
        end = max(now, busy_until) + size / self.rate
        return end + self.delay, end


async def serve(to: int, line: Line) -> None:
    """Listen on a free port, print the port, and forward connections; never return."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _pass_on(to, line, reader, writer)
        except OSError:
            # The server is down, or one side has closed its connection. The proxy therefore closes
            # the client's connection.
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_PIECE)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _pass_on(
    to: int, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    # Simulate the TCP handshake, which takes one round trip before the client can send.
    await asyncio.sleep(2 * line.delay)
    there, back = await asyncio.open_connection("127.0.0.1", to, limit=_PIECE)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_direction(line, reader, back))
            both.create_task(_direction(line, there, writer))
    except* OSError:
        pass  # One side has closed its connection, so the proxy closes the other connection too.
    finally:
        back.close()


async def _direction(
    line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Forward the bytes of one direction of a connection until the sender closes it."""
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
    async with asyncio.TaskGroup() as both:
        both.create_task(_enter(line, reader, under_way))
        both.create_task(_leave(under_way, writer))


async def _enter(
    line: Line, reader: asyncio.StreamReader, under_way: asyncio.Queue[tuple[float, bytes]]
) -> None:
    clock, busy_until = asyncio.get_running_loop().time, 0.0
    while True:
        piece = await reader.read(_PIECE)
        at, busy_until = line.leaves(clock(), len(piece), busy_until)
        await under_way.put((at, piece))
        if not piece:
            return


async def _leave(
    under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        at, piece = await under_way.get()
        await asyncio.sleep(max(at - clock(), 0))
        if not piece:
            with suppress(OSError):
                writer.write_eof()
            return
        writer.write(piece)
        await writer.drain()


def main(task: dict[str, Any]) -> None:
    """Run the simulated line of the task until the process is killed."""
    asyncio.run(serve(task["to"], Line(task["rate"], task["round_trip"] / 2)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
