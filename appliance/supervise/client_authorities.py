"""Load changed CAs of client certificates into the running HAProxy, like a renewed certificate.

HAProxy does not verify the client's certificate again when the client resumes an earlier TLS
session. So haproxy.cfg switches session resumption off if client CAs are configured.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from entrepot.appliance.supervise import certificate, tls_check
from entrepot.appliance.supervise.tls_files import DONE, Send, TlsFiles, TlsPaths, load
from entrepot.runtime.run_names import ADMIN_SOCKET, CLIENT_AUTHORITIES
from entrepot.runtime.unix_socket import send_command

_log = logging.getLogger(__name__)

_LARGEST: Final = 30_000
"""The largest number of bytes of certificates in one command.

HAProxy rejects a command that is longer than tune.bufsize (haproxy.cfg).
"""
_CERTIFICATE = re.compile(
    r"-----BEGIN [A-Z ]*CERTIFICATE-----.*?-----END [A-Z ]*CERTIFICATE-----", re.DOTALL
)


class ClientAuthorities:
    """A `ClientAuthorities` loads changed files of `http.tls.clientcas` into HAProxy.

    *target* is the file that HAProxy reads at its start. *send* sends a command to HAProxy's admin
    socket. *problems* returns the reasons why HAProxy cannot use the files. While the new files are
    unusable, HAProxy continues to use the earlier CAs.
    """

    def __init__(
        self, tls: TlsPaths, target: Path, send: Send, problems: Callable[[], Sequence[str]]
    ) -> None:
        self._tls = tls
        self._target = target
        self._send = send
        self._problems = problems
        self._files = TlsFiles(tls.clientcas, self._renew)

    def look(self) -> None:
        """Load the CAs if a file has changed since the last call."""
        self._files.look()

    def _renew(self) -> bool:
        """Load the CAs into HAProxy.

        Return False if HAProxy was unavailable and the caller must retry.
        """
        if problems := self._problems():
            why = "; ".join(problems)
            _log.warning("the changed client CAs are not used", extra={"problem": why})
            return True
        certificate.write_client_authorities(self._tls, self._target)
        try:
            response = self._load_into_haproxy()
        except OSError:  # HAProxy is starting, or too busy to accept a connection.
            return False
        if DONE in response:
            _log.info("client CAs renewed", extra={"files": len(self._tls.clientcas)})
        else:
            _log.warning(
                "the client CAs could not be loaded, restart to use them", extra={"said": response}
            )
        return True

    def _load_into_haproxy(self) -> str:
        """Send the CAs to HAProxy, and return HAProxy's responses. Raises: OSError."""
        name = self._target
        blocks = "\n".join(_CERTIFICATE.findall(name.read_text(encoding="latin-1")))
        # HAProxy ends the payload of a command at its first empty line.
        lines = "\n".join(line for line in blocks.splitlines() if line.strip())
        if len(lines) > _LARGEST:
            return f"more than {_LARGEST} bytes of certificates"
        return load(self._send, "ca-file", name, lines)


def client_authorities(
    tls: TlsPaths, run: Path, problems: tls_check.Check = tls_check.problems
) -> ClientAuthorities | None:
    """Return an object that watches the client CAs; None if no client CAs are configured.

    *run* is the run directory of the appliance.
    """
    if tls.certificate is None or not tls.clientcas:
        return None
    admin, target = run / ADMIN_SOCKET, run / CLIENT_AUTHORITIES
    return ClientAuthorities(
        tls,
        target,
        lambda line: send_command(admin, line),
        lambda: problems(run, tls_check.CLIENT_AUTHORITIES),
    )
