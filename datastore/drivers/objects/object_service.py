"""Describe what differs between the services that store objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ObjectService:
    """An `ObjectService` is one kind of object storage, which several hosts may offer.

    `store` is the class of obstore that sends the requests. `permissions` has, for each request
    that a start tries (`check.py`), the permission that the request needs. `remedies` has, for an
    error code of the service, what the operator can do; `place` names where permissions are set.

    If `copies_at_once` is False, the service may answer a copy before the copy has been made.
    `metrics_name` is docker distribution's label `driver` in its metrics.
    `had_slash`: older registries began the name of each object with a slash.
    """

    store: Callable[..., Any]
    permissions: Mapping[str, str]
    remedies: Mapping[str, str]
    place: str
    metrics_name: str
    copies_at_once: bool = True
    had_slash: bool = False

    def remedy(self, request: str, error: str) -> str:
        """Return what the operator can do about the *error* with which a *request* was refused."""
        found = (remedy for code, remedy in self.remedies.items() if code in error)
        return next(found, f"allow {self.permissions[request]} on {self.place}")
