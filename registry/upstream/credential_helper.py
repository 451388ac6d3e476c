"""Ask a credential helper of Docker for the login at an upstream (`proxy.exec`).

The protocol is that of docker-credential-helpers: the helper program gets the argument `get`, reads
the host from its standard input, and writes a JSON object with Username and Secret. If the helper
program fails or has no login, the request to the upstream is anonymous, as in docker distribution.
"""

from __future__ import annotations

import logging
import math
import os
import select
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from entrepot.datastore import bounded_json
from entrepot.registry.upstream.credentials import Credential

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 30.0
_PATIENCE_S: Final = 10.0
_IMPATIENCE_S: Final = 1.0
_RETRY_S: Final = 10.0
_MOST_BYTES: Final = 64 * 1024
_LONGEST_REASON: Final = 200
_TOKEN_USER: Final = "<token>"  # noqa: S105 - the name by which helpers mark an identity token
_UNKNOWN: Final = "credentials not found"


class HelperFailed(Exception):  # noqa: N818 - the name states the fact
    """The helper program returned no login; the message is the reason and contains no secret."""


class _Run:
    """A `_Run` is one run of the helper program, *started* at a monotonic time in seconds.

    `found` is the program's login once `ended` is set.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.ended = threading.Event()
        self.found: Credential | None = None
        self.is_reported = False


class HelperCredentials:
    """A `HelperCredentials` caches the login that the program *command* returns for *host*.

    The login is the same for all repositories. The login is used for *lifetime* seconds; None means
    for ever, and 0 means for one request. After a failure, the helper program does not run again
    for 10 s. *clock* is a monotonic clock in seconds.

    A separate thread runs the helper program. Requests wait for the login for up to 10 s after the
    program's start. After a run of more than 10 s, requests wait for only 1 s, until a later
    run takes at most 10 s. A request that stops waiting uses the previous login, or no login.
    """

    def __init__(
        self,
        command: str,
        host: str,
        lifetime: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._host = host
        self._lifetime = math.inf if lifetime is None else lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._patience = _PATIENCE_S
        self._found: Credential | None = None
        self._until = -math.inf

    def find(self, repository: str) -> Credential | None:  # noqa: ARG002 - all have the same login
        """Return the login; if the helper program is slow, return the previous login, if any."""
        with self._lock:
            if self._clock() < self._until:
                return self._found
            run = self._run or self._start()
            left = run.started + self._patience - time.monotonic()
        if run.ended.wait(max(left, 0.0)):
            return run.found
        return self._given_up(run)

    def _start(self) -> _Run:
        """Start the helper program in a thread; the caller holds the lock."""
        run = _Run(time.monotonic())
        name = f"helper {self._host}"
        threading.Thread(target=self._finish, args=(run,), name=name, daemon=True).start()
        self._run = run
        return run

    def _finish(self, run: _Run) -> None:
        """Run the helper program to its end, and record its login."""
        found, span = self._asked()
        is_slow = time.monotonic() - run.started > _PATIENCE_S
        with self._lock:
            self._found, self._until = found, self._clock() + span
            self._patience = _IMPATIENCE_S if is_slow else _PATIENCE_S
            self._run = None
            run.found = found
            run.ended.set()

    def _given_up(self, run: _Run) -> Credential | None:
        """Return the previous login, because the helper program is still running."""
        with self._lock:
            if run.ended.is_set():
                return run.found
            self._patience = _IMPATIENCE_S
            is_first, run.is_reported = not run.is_reported, True
            found = self._found
        if is_first:
            log.warning(
                "credential helper does not exit",
                extra={
                    "command": self._command,
                    "host": self._host,
                    "login": "the previous one" if found else "none",
                },
            )
        return found

    def _asked(self) -> tuple[Credential | None, float]:
        """Run the helper program; return its login and the time in seconds for which to use it."""
        fields: dict[str, object] = {"command": self._command, "host": self._host}
        try:
            found = ask(self._command, self._host)
        except Exception as error:  # noqa: BLE001 - requests wait for this thread
            log.warning("credential helper failed", extra=fields | {"reason": error})
            return None, _RETRY_S
        if found is None:
            log.info("credential helper knows no login", extra=fields)
            return None, max(self._lifetime, _RETRY_S)
        return found, self._lifetime


def ask(command: str, host: str, timeout: float = _TIMEOUT_S) -> Credential | None:
    """Run a credential helper for at most *timeout* seconds; return its login, if any.

    Raises: HelperFailed.
    """
    path = shutil.which(command)
    if path is None:
        raise HelperFailed("no such program, or not executable")
    if os.geteuid() == 0 and not _only_root_changes(Path(path)):
        raise HelperFailed("users other than root can change the program, and root would run it")
    output, code = _run(path, host, timeout)
    if code != 0:
        reason = output.decode("utf-8", "replace").strip()
        if _UNKNOWN in reason:
            return None
        shown = "".join(each if each.isprintable() else "?" for each in reason[:_LONGEST_REASON])
        raise HelperFailed(f"the program ended with {code}: {shown or 'no message'}")
    return _login(output)


def _run(path: str, host: str, timeout: float) -> tuple[bytes, int]:
    """Return the output and the exit code of the helper program.

    At the end, kill the helper program and its children if they are still running.

    Raises: HelperFailed.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator names the program
            [path, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise HelperFailed((error.strerror or str(error)).lower()) from error
    with process:
        try:
            return _talk(process, host, time.monotonic() + timeout)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)


def _talk(process: subprocess.Popen[bytes], host: str, deadline: float) -> tuple[bytes, int]:
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    # A helper program that does not read its standard input causes this error, which is harmless.
    with suppress(BrokenPipeError):
        # The name of the host is shorter than a pipe's buffer, so this write never blocks.
        process.stdin.write(host.encode())
        process.stdin.close()
    output = bytearray()
    poller = select.poll()
    poller.register(process.stdout, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if not poller.poll(left * 1000):
            break
        piece = os.read(process.stdout.fileno(), _MOST_BYTES)
        output += piece
        if len(output) > _MOST_BYTES:
            raise HelperFailed(f"the program's output is longer than {_MOST_BYTES} bytes")
        if not piece:
            with suppress(subprocess.TimeoutExpired):
                return bytes(output), process.wait(max(deadline - time.monotonic(), 0.0))
            break
    raise HelperFailed("the program did not end in time")


def _login(output: bytes) -> Credential:
    try:
        found = bounded_json.loads(output)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise HelperFailed("the program's output is not a JSON object")
    user, secret = found.get("Username"), found.get("Secret")
    if not isinstance(user, str) or not isinstance(secret, str) or not user:
        raise HelperFailed("the program's output has no Username and Secret")
    if user == _TOKEN_USER:
        return Credential("", "", identity_token=secret)
    return Credential(user, secret)


def _only_root_changes(path: Path) -> bool:
    """Return whether only root can replace the program, or a folder or link on its path."""
    places = {*path.absolute().parents, path.absolute(), path.resolve(), *path.resolve().parents}
    return not any(_others_change(each.lstat()) for each in places)


def _others_change(found: os.stat_result) -> bool:
    if stat.S_ISLNK(found.st_mode):
        return found.st_uid != 0
    is_writable = bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    is_sticky = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)
    return found.st_uid != 0 or (is_writable and not is_sticky)
