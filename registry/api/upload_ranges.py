"""Content-Range and Range as uploads have them (OCI distribution-spec 1.1, end-5 and end-13).

They are no ranges of RFC 9110: without a unit, and without the whole length.
"""

from __future__ import annotations

import re

from entrepot.registry.api.ranges import ByteRange
from entrepot.registry.errors import MalformedRequest

# Some clients write RFC 9110's form; more digits than any length has are no number.
_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?", re.ASCII)


def parse(header: str | None) -> ByteRange | None:
    """Read where a chunk belongs. Raises: MalformedRequest."""
    if not header:
        return None
    match = _RANGE.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise MalformedRequest(f"not a range of a chunk: {header[:64]!r}")
    return ByteRange(int(match[1]), int(match[2]) + 1)


def received(offset: int) -> str:
    """Write the Range of what has come in; of nothing it is 0-0, which Docker can read."""
    return f"0-{max(offset - 1, 0)}"
