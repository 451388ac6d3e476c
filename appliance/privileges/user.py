"""Define an account of the machine; this module does not import the configuration."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """A `User` is an account other than root."""

    name: str
    uid: int
    gid: int
    home: str
