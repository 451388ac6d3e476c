"""Leaves lines out of the access log that show no use, where there are too many of them.

Clients without a password can cause such lines as fast as HAProxy answers. In a small log they
would push out the lines of uses before the logger reads them, and a lost line puts eviction off.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable

from entrepot.datastore.accesslog import is_access

_TEXT = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_LINE = re.compile(
    rb'\{"start":[0-9]+,"duration":-?[0-9]+,"method":"([^"]*)","status":([0-9]{1,9}),'
    rb'"termination":"[^"]*","bytes":[0-9]+,"digest":' + _TEXT + rb',"repository":' + _TEXT + rb","
    rb'"kind":' + _TEXT + rb',"cache":' + _TEXT + rb',"user":' + _TEXT + rb',"source":"([^"]*)"'
)
_METHOD, _STATUS, _DIGEST, _KIND, _SOURCE = 1, 2, 3, 5, 8
_OWN = b"unix"  # HAProxy's own socket: the cleaner waits for its line
_SHORTEST = 192  # bytes of a line, at least: what is left of HAProxy's fields when all are empty
_PERIOD_S = 1.0


class LineLimit:
    """Passes in a second at most *by_address* lines of an address, and *in_all* bytes of them.

    Both count only lines that show no use; lines of uses and of our own requests always pass.
    *left_out* is called with a number of lines, once a second at most. *clock* gives s and never
    goes back. For one thread.
    """

    def __init__(
        self,
        by_address: int,
        in_all: int,
        left_out: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._by_address = by_address
        self._in_all = in_all
        self._few = min(in_all, by_address * _SHORTEST)  # bytes that no limit could refuse
        self._tell = left_out
        self._clock = clock
        self._began = clock()
        self._bytes = 0
        self._lines: Counter[bytes] = Counter()
        self._left_out = 0

    def picked(self, lines: memoryview) -> memoryview:
        """Return those of the whole *lines* that go into the log.

        PERF: nothing is looked at while few bytes come.
        """
        self._begin_period()
        if self._bytes + len(lines) <= self._few:
            self._bytes += len(lines)
            return lines
        return memoryview(b"".join(self._chosen(bytes(lines[:-1]).split(b"\n"))))

    def report(self) -> bool:
        """Report what was left out, unless it was done less than a second ago; False then."""
        if self._left_out and self._clock() - self._began >= _PERIOD_S:
            self._begin_period()
        return not self._left_out

    def end(self) -> None:
        """Report what was left out since it was last reported."""
        left_out, self._left_out = self._left_out, 0
        if left_out:
            self._tell(left_out)

    def _begin_period(self) -> None:
        now = self._clock()
        if now - self._began < _PERIOD_S:
            return
        self._began, self._bytes = now, 0
        self._lines.clear()
        self.end()

    def _chosen(self, lines: Iterable[bytes]) -> Iterable[bytes]:
        for line in lines:
            source = _source_of_no_use(line)
            if source is None or self._has_room(line, source):
                yield line + b"\n"
            else:
                self._left_out += 1

    def _has_room(self, line: bytes, source: bytes) -> bool:
        room = self._bytes + len(line) <= self._in_all and self._lines[source] < self._by_address
        if room:
            self._bytes += len(line)
            self._lines[source] += 1
        return room


def _source_of_no_use(line: bytes) -> bytes | None:
    """Return the address of a line that shows no use; None for one that must be kept."""
    match = _LINE.match(line)
    if match is None:
        return b""
    if match[_SOURCE] == _OWN:
        return None
    method, kind = match[_METHOD].decode("latin-1"), match[_KIND].decode("latin-1")
    used = match[_DIGEST] and is_access(method, kind, int(match[_STATUS]))
    return None if used else match[_SOURCE]
