"""An account of the machine, without the modules that choose one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class User:
    """A `User` is an account other than root."""

    name: str
    uid: int
    gid: int
    home: str
