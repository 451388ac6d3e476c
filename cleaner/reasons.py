"""Define the reasons of a removal: a label for the metrics and a text for an operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """A `Reason` is an eviction's reason, which labels the metric; each is a time series."""

    TTL = "ttl"
    SIZE = "size"
    DISK = "disk"
    KEEP = "keep"
    UNTAGGED = "untagged"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Explanation:
    """An `Explanation` is the reason of a removal.

    `reason` labels the metric, and `words` explain the reason to an operator.
    """

    reason: Reason
    words: str
