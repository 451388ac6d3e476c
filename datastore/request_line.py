"""Read the fields that a line of the access log has while an endpoint is configured.

The format is the first `log-format` in haproxy.cfg; a test compares it with RequestLine. The format
extends that of `accesslog`: `id` and `port`, which differ in every request, come before `method`,
`type` and `size` after `kind`, and the other fields after `uri`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Final

from entrepot.datastore.accesslog import AccessLine, parse
from entrepot.datastore.errors import InvalidLine

# No value contains `","source":"`, because each quote in a value is escaped.
_HEADS = re.compile(
    rb'^\{"start":([1-9][0-9]{12}),"duration":(-?[0-9]{1,15}),"id":"([0-9a-f-]{36})"'
    rb',"port":"([0-9]{0,5})[^"\n]*",([^\n]*,"source":")([^"\n]*)([^\n]*)$',
    re.MULTILINE,
)
_STAND_IN = b'{"start":1,"duration":0,'


_SEPARATOR: Final = b"\t"
SEPARATOR: Final = _SEPARATOR.decode()
"""A tab separates the values; JSON contains no tab, because a string has it escaped."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A `RequestLine` has the fields beyond those of AccessLine, in the order of the format.

    `id` identifies the request and `port` is the client's port. `type` is the response's media
    type. `size` is the length of the whole content in bytes, also if the response has only a part
    of it; `size` is empty if the length is unknown. `host` and `agent` are as the client sent them;
    `scheme` is empty for http.
    """

    id: str
    port: str
    type: str
    size: str
    host: str
    agent: str
    scheme: str


TAIL = tuple(each.name for each in fields(RequestLine))[2:]
"""The names of all fields but the first two."""


Head = tuple[str, bytes]
"""A `Head` has the values in which lines of equal requests differ, and the rest of the line for
`parse_rest`.

The values of a `Head` are the request's ID, the time at which its response ended (ms, UTC epoch),
the client's address as the line has it, and the client's port, with SEPARATOR between them. PERF:
this type is a plain tuple, because each line makes one.
"""


def split(lines: Iterable[bytes]) -> Iterator[Head]:
    """Yield the two parts of each line that was written while an endpoint was configured.

    PERF: one search in all lines takes half the time of a match for each. The client's address is
    cut out of the rest of a line, so that a thousand clients that pull the same image have the same
    rest.
    """
    for start, duration, number, port, before, source, after in _HEADS.findall(b"\n".join(lines)):
        end = start
        if duration != b"0":
            end = b"%d" % (int(start) + max(int(duration), 0))
        values = _SEPARATOR.join((number, end, source, port))
        yield values.decode("utf-8", "replace"), before + after


def parse_rest(rest: bytes) -> tuple[AccessLine, RequestLine]:
    """Parse the `rest` of a log line; its times, `id` and `port` are placeholders.

    Raises: InvalidLine.
    """
    line = _STAND_IN + rest
    access = parse(line)
    document = json.loads(line.decode("utf-8", "surrogatepass"))
    try:
        return access, RequestLine("", "", *(str(document[name]) for name in TAIL))
    except KeyError as error:
        raise InvalidLine(rest[:128].decode("latin-1"), "a field is missing") from error
