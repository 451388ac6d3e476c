"""Define the reasons of a removal: a label for the metrics and a text for an operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """A `Reason` is the reason of an eviction, as the metrics label it; each is a time series."""

    TTL = "ttl"
    SIZE = "size"
    DISK = "disk"
    KEEP = "keep"
    UNTAGGED = "untagged"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Explanation:
    """An `Explanation` is the reason of a removal.

    `reason` labels the metric, `words` explain it to an operator.
    """

    reason: Reason
    words: str
