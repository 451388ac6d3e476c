"""Evict content and remove garbage, so that the data directory stays within its cap.

The cleaner works in rounds: it reads the index, plans which content to remove (`policy`), and
removes this content (`sweep`).

A program that embeds the registry imports `Cleaner`, `RetentionRule` and `RetentionRules` from this
package. The module of each name is loaded when the name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entrepot.cleaner.background import Cleaner as Cleaner
    from entrepot.cleaner.hosted.retention import RetentionRule as RetentionRule
    from entrepot.cleaner.hosted.retention import RetentionRules as RetentionRules

_FROM = {
    "Cleaner": "entrepot.cleaner.background",
    "RetentionRule": "entrepot.cleaner.hosted.retention",
    "RetentionRules": "entrepot.cleaner.hosted.retention",
}


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FROM[name]), name)
