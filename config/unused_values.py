"""Check the values of `redis:`, which docker distribution uses and the appliance ignores.

A warning names each misspelt key and each invalid value, because the operator may later use the
same file with docker distribution.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from entrepot.config import readers
from entrepot.config.errors import Problem, Unreadable
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue
from entrepot.config.readers import Reader

# A duration has the syntax of Go's time.ParseDuration, or is a whole number of nanoseconds.
_DURATION = re.compile(
    r"[-+]?(0|\d{1,19}|((\d{1,19}(\.\d{0,19})?|\.\d{1,19})(ns|us|µs|ms|s|m|h)){1,8})"
)


def _duration(given: object) -> str:
    if not _DURATION.fullmatch(str(given).strip()):
        raise Unreadable("not a duration", "try 10ms")
    return str(given)


_COUNT: Final = readers.count(0, 999_999_999, such_as=10)
_READERS: Final[tuple[tuple[Reader[object], str], ...]] = (
    (
        readers.text,
        (
            "addr clientname username password sentinelusername sentinelpassword mastername"
            " identitysuffix tls.certificate tls.key"
        ),
    ),
    (readers.words, "addrs tls.rootcas"),
    (
        _COUNT,
        (
            "db protocol maxretries poolsize minidleconns maxidleconns maxactiveconns maxredirects"
            " pool.maxidle pool.maxactive"
        ),
    ),
    (
        _duration,
        (
            "dialtimeout readtimeout writetimeout minretrybackoff maxretrybackoff pooltimeout"
            " connmaxidletime connmaxlifetime pool.idletimeout"
        ),
    ),
    (
        readers.switch,
        (
            "contexttimeoutenabled poolfifo readonly routebylatency routerandomly disableidentity"
            " unstableresp3 tls.enabled"
        ),
    ),
)
_SECTIONS: Final[Mapping[str, Mapping[str, Reader[object]]]] = {
    section: {name: read for read, names in table for name in names.split()}
    for section, table in (("redis", _READERS),)
}


def remarks(given: Iterable[RawValue]) -> Iterator[Problem]:
    """Yield a warning for each unknown name and each invalid value below `redis:`."""
    for each in given:
        for key, value in _values(each.key, each.value):
            known = _SECTIONS.get(key[0])
            if known is not None and key[1:]:
                yield from _remark(each, ".".join(key[1:]), value, known)


def _remark(
    given: RawValue, name: str, value: object, known: Mapping[str, Reader[object]]
) -> Iterator[Problem]:
    dotted = f"{given.key[0]}.{name}"
    above = ".".join(given.key)
    source = given.name if dotted == above else f"{given.name.removesuffix(above)}{dotted}"
    if any(each.startswith(f"{name}.") for each in known):
        return  # The value is an empty section.
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        remedy = f"did you mean {given.key[0]}.{near[0]}?" if near else "take it out"
        yield Problem(source, "no such key", remedy)
        return
    try:
        known[name](value)
    except Unreadable as error:
        yield Problem(source, error.message, error.remedy)


def _values(key: Key, value: object) -> Iterator[tuple[Key, object]]:
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, below in value.items():
        yield from _values((*key, str(name)), below)
