"""Drop lines of the access log that show no use of content, if there are too many of them.

A line shows a use if its request counts as an access for eviction (`is_access` in
datastore/accesslog.py). Even clients without a password can cause lines that show no use, as fast
as HAProxy responds. In a small log, many such lines could cause a rotation that deletes lines of
uses before the logger reads them. Then the index would lack these uses, and the cleaner would delay
evictions (cleaner/log_barrier.py).
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
# Quotes in values are escaped, so no value can contain the text `","kind":"`.
_READ = (
    rb'","status":(?:200|206|304),"termination":"[^"\n]*","bytes":[0-9]+,"digest":"[^"\n]+",'
    rb'"repository":"[^"\n]*","kind":"(?:%b)"[^\n]*\n'
)
_START = rb'\{"start":[0-9]+,"duration":-?[0-9]+,(?:"id":"[^"\n]*","port":"[^"\n]*",)?"method":"'
# This expression matches consecutive lines of the most frequent uses: GET requests of manifests and
# blobs, and HEAD requests of manifests. The expression `_LINE` parses all other lines.
_FREQUENT_USES = re.compile(
    rb"(?:%b)*"
    % b"|".join(
        _START + method + _READ % kinds
        for method, kinds in ((b"GET", b"manifest|index|blob"), (b"HEAD", b"manifest|index"))
    )
)
# In the log line of a request over HAProxy's unix socket, the source is this text. The cleaner
# sends such a request and waits for its line (log barrier), so these lines are never dropped.
_OWN = b"unix"
_SHORTEST = 192  # The number of bytes in the shortest log line, in which all fields are empty.
_PERIOD_S = 1.0


class LineLimit:
    """A `LineLimit` drops log lines that show no use and that exceed one of two limits.

    *by_address* is the largest number of such lines from one client address in a second.
    *in_all* is the largest total number of bytes of such lines in a second. Lines of uses and of
    internal requests are never dropped. *left_out* is called with the number of dropped lines, at
    most once a second. *clock* is a monotonic clock in seconds. Not thread-safe.
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
        # If at most this many bytes arrive in a second, neither limit can be exceeded, because
        # every line has at least `_SHORTEST` bytes.
        self._few = min(in_all, by_address * _SHORTEST)
        self._on_left_out = left_out
        self._clock = clock
        self._began = clock()
        self._bytes = 0
        self._lines: Counter[bytes] = Counter()
        self._left_out = 0

    def filter(self, lines: memoryview) -> memoryview:
        """Return *lines* without the lines to drop. *lines* must end with a newline.

        PERF: while few bytes arrive, lines are not parsed. Otherwise one match of `_FREQUENT_USES`
        accepts a whole sequence of lines, in 0.5 us a line.
        """
        self._begin_period()
        if self._bytes + len(lines) <= self._few:
            self._bytes += len(lines)
            return lines
        return memoryview(b"".join(self._chosen(bytes(lines))))

    def report(self) -> bool:
        """Report the dropped lines if a second has passed since the last report.

        Return False if some dropped lines are still unreported.
        """
        if self._left_out and self._clock() - self._began >= _PERIOD_S:
            self._begin_period()
        return not self._left_out

    def end(self) -> None:
        """Report the lines that were dropped since the last report."""
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
    """Return the client address of a line that shows no use.

    Return None for a line of a use or of an internal request, and b"" for a line that does not
    match `_LINE`.
    """
    match = _LINE.match(line)
    if match is None:
        return b""
    if match[_SOURCE] == _OWN:
        return None
    method, kind = match[_METHOD].decode("latin-1"), match[_KIND].decode("latin-1")
    used = match[_DIGEST] and is_access(method, kind, int(match[_STATUS]))
    return None if used else match[_SOURCE]
