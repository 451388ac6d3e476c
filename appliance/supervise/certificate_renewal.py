"""A renewed certificate, taken up while HAProxy serves: no restart, no connection lost.

HAProxy is told over its admin socket, for a reload would end pulls that take longer than its
grace. The file that it reads at a start is renewed too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from entrepot import config
from entrepot.appliance.supervise import certificate
from entrepot.config.schema import Settings
from entrepot.runtime.reloading_file import ReloadingFile
from entrepot.runtime.unix_http import answer_to

_log = logging.getLogger(__name__)

_DONE = "Success"
_Ask = Callable[[str], str]


class CertificateRenewal:
    """Watches certificate and key; *target* is where HAProxy has both, *ask* its admin socket.

    What can't be used (a certificate whose key has not come yet) leaves the last one in force.
    """

    def __init__(self, settings: Settings, target: Path, ask: _Ask) -> None:
        self._settings = settings
        self._target = target
        self._ask = ask
        tls = settings.http.tls
        paths = dict.fromkeys(each for each in (tls.certificate, tls.key) if each is not None)
        self._files = [ReloadingFile(path, bytes) for path in paths]
        self._seen = self._generations()

    def look(self) -> None:
        """Renew what has changed since the last look."""
        now = self._generations()
        if now != self._seen and self._renew():
            self._seen = now

    def _generations(self) -> list[int]:
        return [each.generation for each in self._files]

    def _renew(self) -> bool:
        """Say whether that is settled; if not, it is to be tried again."""
        if problems := config.certificate_problems(self._settings):
            why = "; ".join(map(str, problems))
            _log.warning("changed certificate stays unused", extra={"problem": why})
            return True
        certificate.gather(self._settings.http.tls, self._target)
        try:
            said = self._told_haproxy()
        except OSError:  # it is just being started again, or too busy to listen
            return False
        if _DONE in said:
            _log.info("certificate renewed", extra={"path": self._settings.http.tls.certificate})
        else:
            _log.warning("certificate not renewed, restart to use it", extra={"said": said})
        return True

    def _told_haproxy(self) -> str:
        name = self._target
        # HAProxy's own framing: a payload ends at its first empty line
        lines = (line for line in name.read_text().splitlines() if line.strip())
        said = self._ask("set ssl cert {} <<\n{}\n".format(name, "\n".join(lines)))
        done = self._ask(f"commit ssl cert {name}")
        if _DONE not in done:
            self._ask(f"abort ssl cert {name}")
        return " ".join(f"{said} {done}".split())


def renewal(settings: Settings, run: Path) -> CertificateRenewal:
    """Watch the certificate of the appliance whose run directory is *run*."""
    admin = run / "admin.sock"
    return CertificateRenewal(settings, run / certificate.NAME, lambda line: answer_to(admin, line))
