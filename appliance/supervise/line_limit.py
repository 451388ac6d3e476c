"""Drop access-log lines that show no use of content, when there are too many of them.

A line shows a use if its request counts as an access for eviction (`datastore.access.is_use`).
Clients without a password can cause other lines as fast as HAProxy responds. In a small log, lines
that show no use would push out the lines of uses before the logger reads these, and a lost line
delays eviction.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable

from entrepot.datastore.accesslog import is_access

_TEXT = rb'"([^"\\]*(?:\\.[^"\\]*)*)"'
_LINE = re.compile(
    rb'\{"start":[0-9]+,"duration":-?[0-9]+,(?:"id":"[^"]*","port":"[^"]*",)?'
    rb'"method":"([^"]*)","status":([0-9]{1,9}),'
    rb'"termination":"[^"]*","bytes":[0-9]+,"digest":' + _TEXT + rb',"repository":' + _TEXT + rb","
    rb'"kind":'
    + _TEXT
    + rb',(?:"type":"[^"]*","size":"[^"]*",)?"cache":'
    + _TEXT
    + rb',"user":'
    + _TEXT
    + rb',"source":"([^"]*)"'
)
_METHOD, _STATUS, _DIGEST, _KIND, _SOURCE = 1, 2, 3, 5, 8
# A quote within a text is escaped, so a value cannot contain `","kind":"`.
_READ = (
    rb'","status":(?:200|206|304),"termination":"[^"\n]*","bytes":[0-9]+,"digest":"[^"\n]+",'
    rb'"repository":"[^"\n]*","kind":"(?:%b)"[^\n]*\n'
)
_START = rb'\{"start":[0-9]+,"duration":-?[0-9]+,(?:"id":"[^"\n]*","port":"[^"\n]*",)?"method":"'
# This expression matches any number of lines of the most frequent kinds that show a use. Rarer
# kinds of uses are found by the expression `_LINE`.
_FREQUENT_USES = re.compile(
    rb"(?:%b)*"
    % b"|".join(
        _START + method + _READ % kinds
        for method, kinds in ((b"GET", b"manifest|index|blob"), (b"HEAD", b"manifest|index"))
    )
)
# This source marks a request over HAProxy's own socket; the cleaner waits for the line of such a
# request (log barrier).
_OWN = b"unix"
_SHORTEST = 192  # A log line has at least this many bytes: HAProxy's format with empty fields.
_PERIOD_S = 1.0


class LineLimit:
    """A `LineLimit` limits log lines per second: *by_address* of one address, *in_all* bytes.

    A `LineLimit` drops all lines above a limit.

    The two limits count only lines that show no use; lines of uses and of internal requests always
    pass. *left_out* is called with the number of dropped lines, at most once a second. *clock*
    returns s and never goes back. Not thread-safe.
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
        # If fewer bytes than this arrive in a second, neither limit can be exceeded: every line has
        # at least `_SHORTEST` bytes.
        self._few = min(in_all, by_address * _SHORTEST)
        self._on_left_out = left_out
        self._clock = clock
        self._began = clock()
        self._bytes = 0
        self._lines: Counter[bytes] = Counter()
        self._left_out = 0

    def filter(self, lines: memoryview) -> memoryview:
        """Return the given lines that go into the log. *lines* must end with a newline.

        PERF: lines are not parsed while few bytes arrive. When lines must be parsed, one match of
        an expression passes all consecutive lines of the usual form, in 0.5 us for each.
        """
        self._begin_period()
        if self._bytes + len(lines) <= self._few:
            self._bytes += len(lines)
            return lines
        return memoryview(b"".join(self._chosen(bytes(lines))))

    def report(self) -> bool:
        """Report the dropped lines if a second has passed.

        Return False if some dropped lines are unreported.
        """
        if self._left_out and self._clock() - self._began >= _PERIOD_S:
            self._begin_period()
        return not self._left_out

    def end(self) -> None:
        """Report the lines dropped since the last report."""
        left_out, self._left_out = self._left_out, 0
        if left_out:
            self._on_left_out(left_out)

    def _begin_period(self) -> None:
        now = self._clock()
        if now - self._began < _PERIOD_S:
            return
        self._began, self._bytes = now, 0
        self._lines.clear()
        self.end()

    def _chosen(self, lines: bytes) -> Iterable[bytes]:
        start = 0
        while start < len(lines):
            uses = _FREQUENT_USES.match(lines, start)
            end = uses.end() if uses else start
            if end == start:
                end = lines.index(b"\n", start) + 1
                if not self._passes(lines[start : end - 1]):
                    start = end
            yield lines[start:end]
            start = end

    def _passes(self, line: bytes) -> bool:
        source = _source_of_no_use(line)
        passes = source is None or self._has_room(line, source)
        self._left_out += not passes
        return passes

    def _has_room(self, line: bytes, source: bytes) -> bool:
        room = self._bytes + len(line) <= self._in_all and self._lines[source] < self._by_address
        if room:
            self._bytes += len(line)
            self._lines[source] += 1
        return room


def _source_of_no_use(line: bytes) -> bytes | None:
    """Return the client address of a line that shows no use; None for a line to be kept."""
    match = _LINE.match(line)
    if match is None:
        return b""
    if match[_SOURCE] == _OWN:
        return None
    method, kind = match[_METHOD].decode("latin-1"), match[_KIND].decode("latin-1")
    used = match[_DIGEST] and is_access(method, kind, int(match[_STATUS]))
    return None if used else match[_SOURCE]
