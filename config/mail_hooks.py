"""Read `log.hooks`, which states which log lines are mailed, through which mail server and to whom.

docker distribution has one type of hook, `mail`. It ignores a hook of another type, and reads an
unknown level as `panic`. The appliance reports both as errors.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from entrepot.config import readers
from entrepot.config.errors import Unreadable
from entrepot.config.yaml_text import from_yaml

LEVELS: Final = ("panic", "fatal", "error", "warn", "info", "debug", "trace")
"""The levels of logrus (docker distribution's logging library), the most severe level first."""

T = TypeVar("T")

_MOST: Final = 8
_ALIASES: Final = {"warning": "warn"}
_KEYS: Final = ("type", "disabled", "levels", "options")
_OPTIONS: Final = ("smtp", "from", "to")
_SMTP: Final = ("addr", "username", "password", "insecure")
_PORT: Final = readers.count(1, 65535, such_as=25)
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", re.ASCII)
_MAIL_ADDRESS = re.compile(r"[^\s<>,;:\"()\[\]\\]+", re.ASCII)
_EXAMPLE: Final = "compare config/example.yml"


@dataclass(frozen=True, slots=True)
class MailHook:
    """A `MailHook` mails log lines of *levels* from *sender* to *recipients*.

    The mail server is at *host* and *port*. If `is_insecure` is true, the appliance does not verify
    the server's certificate, and it sends the password even over a connection without TLS. If
    `username` is empty, the appliance does not log in to the mail server.
    """

    levels: tuple[str, ...]
    host: str
    port: int
    sender: str
    recipients: tuple[str, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    is_insecure: bool = False

    def __str__(self) -> str:
        return f"mail {' '.join(self.levels)} to {' '.join(self.recipients)}"


def hooks(given: object) -> tuple[MailHook, ...]:
    """Read a list of mail hooks or its YAML text; omit disabled hooks.

    Raises: Unreadable.
    """
    found = from_yaml(given, _EXAMPLE)
    if found is None or found == "":
        return ()
    # A tuple is copied from a `Settings` object, so it is already parsed.
    if isinstance(found, tuple):
        return found
    if not isinstance(found, list):
        raise Unreadable("not a list of hooks", _EXAMPLE)
    if len(found) > _MOST:
        raise Unreadable(f"more than {_MOST} hooks", "take some out")
    read = [_hook(f"hook {number}", each) for number, each in enumerate(found)]
    return tuple(each for each in read if each is not None)


def show(given: tuple[MailHook, ...]) -> str:
    """Return the mail hooks as one readable line, without passwords."""
    return "; ".join(map(str, given)) or "none"


def _hook(name: str, given: object) -> MailHook | None:
    keys = _section(name, given, _KEYS)
    if _read(f"{name}: disabled", readers.switch, keys.get("disabled") or "false"):
        return None
    if keys.get("type") != "mail":
        raise Unreadable(f"{name}: the type of the hook is not known", "try type: mail")
    options = _section(f"{name}: options", keys.get("options"), _OPTIONS)
    smtp = _section(f"{name}: options.smtp", options.get("smtp"), _SMTP)
    host, port = _read(f"{name}: options.smtp.addr", _server, smtp.get("addr"))
    return MailHook(
        levels=_read(f"{name}: levels", _levels, keys.get("levels")),
        host=host,
        port=port,
        sender=_read(f"{name}: options.from", _mail_address, options.get("from")),
        recipients=_read(f"{name}: options.to", _recipients, options.get("to")),
        username=_read(f"{name}: options.smtp.username", _text, smtp.get("username")),
        password=_read(f"{name}: options.smtp.password", _text, smtp.get("password")),
        is_insecure=_read(
            f"{name}: options.smtp.insecure", readers.switch, smtp.get("insecure") or "false"
        ),
    )


def _section(name: str, given: object, known: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(given, Mapping):
        raise Unreadable(f"{name}: not a map", _EXAMPLE)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key).lower(), known, 1) or known
            raise Unreadable(f"{name}: no such key: {str(key)[:32]}", f"did you mean {near[0]}?")
    return given


def _read(name: str, read: Callable[[object], T], given: object) -> T:
    try:
        return read(given)
    except Unreadable as error:
        raise Unreadable(f"{name}: {error.message}", error.remedy) from error


def _text(given: object) -> str:
    return readers.text(given) if given else ""


def _levels(given: object) -> tuple[str, ...]:
    named = [each.lower() for each in readers.words(given)] if given else []
    if not named:
        raise Unreadable("empty, so no line is mailed", "try [error], or disabled: true")
    return tuple(dict.fromkeys(map(_level, named)))


def _level(given: str) -> str:
    return readers.choice(*LEVELS)(_ALIASES.get(given, given))


def _server(given: object) -> tuple[str, int]:
    host, _, port = readers.text(given).rpartition(":")
    if not _HOST.fullmatch(host):
        raise Unreadable("not a host and a port", "try mail.example:25")
    return host.strip("[]"), _PORT(port)


def _mail_address(given: object) -> str:
    address = readers.text(given)
    if not _MAIL_ADDRESS.fullmatch(address):
        raise Unreadable("not a mail address", "try registry@example.com")
    return address


def _recipients(given: object) -> tuple[str, ...]:
    found = tuple(map(_mail_address, readers.words(given) if given else ()))
    if not found:
        raise Unreadable("no mail address", "try [admin@example.com]")
    return found
