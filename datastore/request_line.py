"""Parse the longer lines that HAProxy writes if an endpoint for notifications is configured.

The first `log-format` in haproxy.cfg defines these lines, and a test compares it with RequestLine.
The lines have the fields of `accesslog` and seven more. `id` and `port`, which are different in
each request, are before `method`. `type` and `size` are after `kind`, and `host`, `agent` and
`scheme` are after `uri`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Final

from entrepot.datastore.accesslog import AccessLine, parse
from entrepot.datastore.errors import InvalidLine

# This pattern finds the field `source` by the text `","source":"`. No value contains this text,
# because HAProxy escapes each quote in a value.
_HEADS = re.compile(
    rb'^\{"start":([1-9][0-9]{12}),"duration":(-?[0-9]{1,15}),"id":"([0-9a-f-]{36})"'
    rb',"port":"([0-9]{0,5})[^"\n]*",([^\n]*,"source":")([^"\n]*)([^\n]*)$',
    re.MULTILINE,
)
_STAND_IN = b'{"start":1,"duration":0,'


_SEPARATOR: Final = b"\t"
SEPARATOR: Final = _SEPARATOR.decode()
"""A tab separates the values of a `Head`.

No value contains a tab, because the line is JSON, which escapes tabs in strings.
"""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A `RequestLine` has the seven fields that AccessLine lacks, in the order of the line.

    `id` identifies the request, and `port` is the TCP port of the client. `type` is the media type
    of the response. `size` is the length of the whole content in bytes, even if the response has
    only a range of it. `size` is empty if the length is unknown. `host` and `agent` are the headers
    `Host` and `User-Agent` of the client. `scheme` is empty for http.
    """

    id: str
    port: str
    type: str
    size: str
    host: str
    agent: str
    scheme: str


TAIL = tuple(each.name for each in fields(RequestLine))[2:]
"""The names of RequestLine's fields, except `id` and `port`."""


Head = tuple[str, bytes]
"""A `Head` is the part of a line that differs between equal requests, and the rest of the line.

The first part has four values with SEPARATOR between them: the ID of the request, the time at which
its response ended (milliseconds since the UTC epoch), the address of the client as it is in the
line, and the port of the client. `parse_rest` parses the second part. PERF: a `Head` is a plain
tuple, because a tuple is cheaper than an object, and each line needs one.
"""


def split(lines: Iterable[bytes]) -> Iterator[Head]:
    """Yield the `Head` of each line that has the fields of RequestLine; skip other lines.

    PERF: one search in the text of all lines takes half the time of a separate match for each line.
    The second part of a `Head` does not contain the address of the client. So if a thousand clients
    pull the same image, this part is the same in all their lines.
    """
    for start, duration, number, port, before, source, after in _HEADS.findall(b"\n".join(lines)):
        end = start
        if duration != b"0":
            end = b"%d" % (int(start) + max(int(duration), 0))
        values = _SEPARATOR.join((number, end, source, port))
        yield values.decode("utf-8", "replace"), before + after


def parse_rest(rest: bytes) -> tuple[AccessLine, RequestLine]:
    """Parse the rest of a line, which is the second part of a `Head`.

    The second part has no start, duration, ID and port, so these fields of the result have
    meaningless values. Raises: InvalidLine.
    """
    line = _STAND_IN + rest
    access = parse(line)
    document = json.loads(line.decode("utf-8", "surrogatepass"))
    try:
        return access, RequestLine("", "", *(str(document[name]) for name in TAIL))
    except KeyError as error:
        raise InvalidLine(rest[:128].decode("latin-1"), "a field is missing") from error
