"""What the doctor says: one line a thing looked at."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How it stands; only `FAILS` is ill."""

    WORKS = "works"
    FELL_BACK = "fell back"  # it works, but not in the way that it should
    FAILS = "fails"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `why` it stands as it does, and what to do about it."""

    what: str
    verdict: Health
    why: str
    remedy: str = ""


def works(what: str, why: str) -> Finding:
    """Say that all is well."""
    return Finding(what, Health.WORKS, why)


def fails(what: str, why: str, remedy: str = "") -> Finding:
    """Say that it is ill."""
    return Finding(what, Health.FAILS, why, remedy)


class CannotContinue(Exception):  # noqa: N818 - the class says the fact, as all here do
    """Something is in the way of all that would be looked at next."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
