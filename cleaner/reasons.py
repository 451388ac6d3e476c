"""Why something goes: one word for the metrics, a few for a person."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """A label of the metrics, hence few."""

    TTL = "ttl"
    SIZE = "size"
    DISK = "disk"
    KEEP = "keep"
    UNTAGGED = "untagged"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Explanation:
    """`words` say to a person what `reason` says to a metric."""

    reason: Reason
    words: str
