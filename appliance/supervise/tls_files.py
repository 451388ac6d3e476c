"""Watch files with certificates, and load changes into HAProxy over its admin socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from entrepot.runtime.reloading_file import ReloadingFile

DONE: Final = "Success"
"""HAProxy's response to a command that took effect contains this text."""

Send = Callable[[str], str]
"""A function that sends a command to HAProxy's admin socket and returns the response.

Raises: OSError.
"""


@dataclass(frozen=True, slots=True)
class TlsPaths:
    """A `TlsPaths` has the files of `http.tls`: certificate, key, and CAs of client certificates.

    `certificate` is None for plain HTTP; `key` is None if the certificate's file has the key too.
    """

    certificate: Path | None
    key: Path | None = None
    clientcas: tuple[Path, ...] = ()


class TlsFiles:
    """A `TlsFiles` watches *paths*, and calls *renew* after a change.

    If HAProxy was unavailable, *renew* returns False, and the next call of `look` calls *renew*
    again.
    """

    def __init__(self, paths: Iterable[Path], renew: Callable[[], bool]) -> None:
        self._files = [ReloadingFile(path, bytes) for path in paths]
        self._renew = renew
        self._seen = self._generations()

    def look(self) -> None:
        """Call *renew* if a file has changed since the last successful call of *renew*."""
        now = self._generations()
        if now != self._seen and self._renew():
            self._seen = now

    def _generations(self) -> list[int]:
        return [each.generation for each in self._files]


def load(send: Send, kind: str, name: Path, lines: str) -> str:
    """Replace the file *name* in HAProxy's memory by *lines*, and return HAProxy's responses.

    *kind* is `cert` or `ca-file`. *lines* must contain no empty line, because an empty line ends
    the payload of a command. Raises: OSError.
    """
    set_response = send(f"set ssl {kind} {name} <<\n{lines}\n\n")
    committed = send(f"commit ssl {kind} {name}")
    if DONE not in committed:
        send(f"abort ssl {kind} {name}")
    return " ".join(f"{set_response} {committed}".split())
