"""Define the reasons for a removal: each has a label for metrics and a text for the operator."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """A `Reason` is a value of the label `reason` of metrics.

    Each value is a separate time series, so there are few values.
    """

    TTL = "ttl"
    SIZE = "size"
    DISK = "disk"
    KEEP = "keep"
    UNTAGGED = "untagged"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Explanation:
    """An `Explanation` is the reason why content or an image is removed.

    `reason` is the reason as a label of metrics; `words` is the reason as a text for the operator.
    """

    reason: Reason
    words: str
