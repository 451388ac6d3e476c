"""Define the result of one check of `entrepot doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """A `Health` is the result of a check; only `FAILS` makes the appliance unhealthy."""

    WORKS = "works"
    FELL_BACK = "fell back"  # The check passed, but the appliance had to use a fallback.
    FAILS = "fails"
    NOT_TRIED = "not tried"


@dataclass(frozen=True, slots=True)
class Finding:
    """A `Finding` is the result of one check: its name, its result, the reason, and the remedy."""

    what: str
    verdict: Health
    why: str
    remedy: str = ""


def works(what: str, why: str) -> Finding:
    """Return the finding of a check that passed."""
    return Finding(what, Health.WORKS, why)


def fails(what: str, why: str, remedy: str = "") -> Finding:
    """Return the finding of a check that failed."""
    return Finding(what, Health.FAILS, why, remedy)


class CannotContinue(Exception):  # noqa: N818 - the name states the fact, as of all exceptions here
    """A check on which later checks depend has failed. `why` is the reason of the failure."""

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy
