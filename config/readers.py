"""Read single values from the text of a flag, a variable or YAML.

The functions that read a value also accept a value that is already parsed. For an invalid value,
they raise Unreadable with a remedy, so that operators do not see messages of libraries.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from entrepot.config.errors import Unreadable
from entrepot.config.yaml_text import from_yaml

T = TypeVar("T")
Reader = Callable[[object], T]

_DIGITS = re.compile(r"\d{1,9}", re.ASCII)
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


def text(given: object) -> str:
    """Read one line of text. Raises: Unreadable."""
    if isinstance(given, (list, tuple, dict)) or given is None:
        raise Unreadable("not a text", "write one value, not a list or a map")
    line = str(given)
    if not line:
        raise Unreadable("empty", "give the setting a value, or take it out")
    if any(ord(each) < ord(" ") or "\ud800" <= each <= "\udfff" for each in line):
        raise Unreadable("not one line of UTF-8 text", "write the value on one line, in UTF-8")
    return line


def is_set(given: object) -> bool:
    """Return whether *given*, a value of a map, is present and not empty."""
    return given is not None and given != ""


def suggestion(given: str, known: Sequence[str]) -> str:
    """Return the last part of a message about an unknown word.

    This part suggests the most similar known word, or lists all known words if none is similar.
    """
    near = difflib.get_close_matches(given.lower(), known, 1)
    return f", did you mean {near[0]}?" if near else f" (try {', '.join(known)})"


def switch(given: object) -> bool:
    """Read true or false. Raises: Unreadable."""
    word = str(given).strip().lower()
    if word not in _TRUE | _FALSE:
        raise Unreadable("neither true nor false", "try true")
    return word in _TRUE


def path(given: object) -> Path:
    """Read a path; a relative path starts at the working directory. Raises: Unreadable."""
    return Path(text(given)).absolute()


def words(given: object) -> tuple[str, ...]:
    """Read a YAML list, or words that spaces or commas separate. Raises: Unreadable."""
    if isinstance(given, str) and given.strip().startswith("["):
        given = from_yaml(given, "try [one, two]", "not a list")
    if isinstance(given, str):
        return tuple(given.replace(",", " ").split())
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise Unreadable("not a list", "try [one, two]")
    return tuple(text(each) for each in given)


def count(low: int, high: int, *, such_as: int) -> Reader[int]:
    """Return a function that reads whole numbers from *low* to *high*, both inclusive."""

    def read(given: object) -> int:
        digits = str(given).strip()
        if not _DIGITS.fullmatch(digits) or not low <= int(digits) <= high:
            raise Unreadable(f"not a whole number from {low} to {high}", f"try {such_as}")
        return int(digits)

    return read


_USUAL_PAGE: Final = 1000
_PAGE = count(0, 100_000, such_as=_USUAL_PAGE)


def page_size(given: object) -> int:
    """Read the largest number of entries in a page of a list.

    An empty value, 0 and negative numbers mean 1000, as in docker distribution.

    Raises: Unreadable.
    """
    digits = str(given).strip().removeprefix("-") if given is not None else ""
    if str(given).strip().startswith("-") and _DIGITS.fullmatch(digits):
        return _USUAL_PAGE
    return _PAGE(given) or _USUAL_PAGE if digits else _USUAL_PAGE


def choice(*known: str) -> Reader[str]:
    """Return a function that accepts only the words *known*.

    For any other word, the remedy in the error is the most similar known word. If no known word is
    similar, the remedy is the first known word.
    """

    def read(given: object) -> str:
        if given not in known:
            word = str(given).lower()
            longer = [each for each in known if each.startswith(word)]
            near = longer or difflib.get_close_matches(word, known, 1) or known
            raise Unreadable(f"not one of {', '.join(known)}", f"try {near[0]}")
        return str(given)

    return read


# Objects in these storage classes of S3 can be read at once. Objects in other classes, such as
# GLACIER, must be restored first, so the appliance could not serve them.
_STORAGE_CLASS: Final = choice(
    "STANDARD",
    "NONE",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "OUTPOSTS",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
)


def storage_class(given: object) -> str:
    """Read a storage class of S3, in upper or lower case. Raises: Unreadable."""
    return _STORAGE_CLASS(text(given).upper())


_LEVEL: Final = choice("info", "error", "warn", "debug")
# Each key is the name of a level in other logging libraries, and its value is the level that the
# message suggests instead. docker distribution also rejects these names.
_NEAREST_LEVELS: Final = {"trace": "debug", "warning": "warn", "fatal": "error", "panic": "error"}


def log_level(given: object) -> str:
    """Read a log level in upper or lower case. Raises: Unreadable."""
    word = str(given).lower()
    if word in _NEAREST_LEVELS:
        raise Unreadable(
            "the level is not one of info, error, warn, debug", f"try {_NEAREST_LEVELS[word]}"
        )
    return _LEVEL(word)


def redirects(given: object) -> tuple[str, ...]:
    """Read the addresses to which an upstream may redirect: `public`, `any` or a list of networks.

    Raises: Unreadable.
    """
    found = tuple(each.lower() for each in words(given))
    for each in found:
        if each not in {"public", "any"} and not _is_network(each):
            raise Unreadable(
                f"neither public, any nor a network: {each[:64]}", "try [public, 10.0.0.0/8]"
            )
    return found or ("public",)


def _is_network(given: str) -> bool:
    try:
        ipaddress.ip_network(given)
    except ValueError:
        return False
    return True


def optional(read: Reader[T], *nothing: str) -> Reader[T | None]:
    """Return a function that returns None for an empty text and for each of the words *nothing*.

    The function reads any other value with *read*.
    """

    def read_or_none(given: object) -> T | None:
        empty = given is None or (isinstance(given, str) and given in {"", *nothing})
        return None if empty else read(given)

    return read_or_none


def or_default(read: Reader[T], default: T) -> Reader[T]:
    """Return a function that returns *default* for an empty text, as docker distribution does.

    The function reads any other value with *read*.
    """
    return lambda given: default if given is None or given == "" else read(given)


def unless_absent(read: Reader[T]) -> Reader[T | None]:
    """Return a function that reads a value with *read*; the value may be absent but not empty.

    An empty value is an error, because the operator probably forgot to fill it in.
    """
    return lambda given: None if given is None else read(given)
