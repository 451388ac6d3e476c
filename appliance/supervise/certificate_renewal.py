"""Load a renewed certificate into the running HAProxy, without losing a connection.

The certificate is sent over HAProxy's admin socket. HAProxy is not reloaded, because a reload would
abort pulls that take longer than HAProxy's grace period. The PEM file that HAProxy reads at its
start is replaced too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from entrepot.appliance.supervise import certificate, tls_check
from entrepot.appliance.supervise.tls_files import DONE, Send, TlsFiles, TlsPaths, load
from entrepot.runtime.run_names import ADMIN_SOCKET, CERTIFICATE
from entrepot.runtime.unix_socket import send_command

_log = logging.getLogger(__name__)


class CertificateRenewal:
    """A `CertificateRenewal` watches the certificate and its key, and loads changes into HAProxy.

    *target* is the PEM file that HAProxy reads at its start. *send* sends a command to HAProxy's
    admin socket. *problems* returns the reasons why HAProxy cannot use the files. While the new
    files are unusable (for example because the new key is not written yet), HAProxy continues to
    use the earlier certificate.
    """

    def __init__(
        self, tls: TlsPaths, target: Path, send: Send, problems: Callable[[], Sequence[str]]
    ) -> None:
        self._tls = tls
        self._target = target
        self._send = send
        self._problems = problems
        paths = dict.fromkeys(each for each in (tls.certificate, tls.key) if each is not None)
        self._files = TlsFiles(paths, self._renew)

    def look(self) -> None:
        """Load the certificate if a file has changed since the last call."""
        self._files.look()

    def _renew(self) -> bool:
        """Load the certificate into HAProxy.

        Return False if HAProxy was unavailable and the caller must retry.
        """
        if problems := self._problems():
            why = "; ".join(problems)
            _log.warning("the changed certificate is not used", extra={"problem": why})
            return True
        certificate.write_pem(self._tls, self._target)
        try:
            response = self._load_into_haproxy()
        except OSError:  # HAProxy is starting, or too busy to accept a connection.
            return False
        if DONE in response:
            _log.info("certificate renewed", extra={"path": self._tls.certificate})
        else:
            _log.warning(
                "the certificate could not be loaded, restart to use it", extra={"said": response}
            )
        return True

    def _load_into_haproxy(self) -> str:
        """Send the PEM file to HAProxy, and return HAProxy's responses. Raises: OSError."""
        name = self._target
        # HAProxy ends the payload of a command at its first empty line.
        lines = (line for line in name.read_text().splitlines() if line.strip())
        return load(self._send, "cert", name, "\n".join(lines))


def renewal(
    tls: TlsPaths, run: Path, problems: tls_check.Check = tls_check.problems
) -> CertificateRenewal:
    """Return an object that watches the certificate of the appliance with run directory *run*."""
    admin = run / ADMIN_SOCKET
    return CertificateRenewal(
        tls,
        run / CERTIFICATE,
        lambda line: send_command(admin, line),
        lambda: problems(run, tls_check.CERTIFICATE),
    )
