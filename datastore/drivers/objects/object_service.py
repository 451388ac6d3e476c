"""Describe the differences between the services that store objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ObjectService:
    """An `ObjectService` is one kind of object storage, such as S3 or Azure.

    `store` is the class of obstore that sends the requests. When the appliance starts, it tries
    several requests (`check.py`); `permissions` maps the name of each request to the permission
    that it needs. `remedies` maps an error code of the service to a remedy for the operator.
    `place` names the bucket or container in a remedy.

    If `copies_at_once` is False, the service may respond to a request to copy an object before the
    copy is complete. `metrics_name` is the value of the label `driver` in docker distribution's
    metrics. If `had_slash` is True, older registries wrote objects whose names begin with a slash
    to this service.
    """

    store: Callable[..., Any]
    permissions: Mapping[str, str]
    remedies: Mapping[str, str]
    place: str
    metrics_name: str
    copies_at_once: bool = True
    had_slash: bool = False

    def remedy(self, request: str, error: str) -> str:
        """Return the remedy for the operator after the service refused a *request* with *error*."""
        found = (remedy for code, remedy in self.remedies.items() if code in error)
        return next(found, f"allow {self.permissions[request]} on {self.place}")
