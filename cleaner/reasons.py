"""Define the reasons of a removal: a label for a metric, and a text for an operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """A `Reason` is a value of the label `reason` of metrics, so each makes a time series."""

    TTL = "ttl"
    SIZE = "size"
    DISK = "disk"
    KEEP = "keep"
    UNTAGGED = "untagged"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Explanation:
    """An `Explanation` tells why content or an image is removed.

    `reason` labels a metric; `words` are for an operator.
    """

    reason: Reason
    words: str
