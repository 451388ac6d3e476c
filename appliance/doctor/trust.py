"""Whether a client trusts the appliance's certificate, and until when."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from typing import Any

from entrepot.appliance.doctor.finding import CannotContinue, Finding, works
from entrepot.config.certificates import NO_NAMES

_PATIENCE = 5.0  # s
_SOON = dt.timedelta(days=14)
_RENEW = "renew it: entrepot certs"


def context(authority: str | None) -> ssl.SSLContext:
    """Return what trusts the system's authorities, and *authority* (PEM) beside them."""
    made = ssl.create_default_context()
    if authority:
        made.load_verify_locations(cadata=authority)
    return made


def look(
    address: tuple[str, int], name: str, trusting: ssl.SSLContext, now: dt.datetime
) -> Finding:
    """Shake hands with who listens at *address* and must be *name*. Raises: Ill."""
    try:
        with (
            socket.create_connection(address, timeout=_PATIENCE) as plain,
            trusting.wrap_socket(plain, server_hostname=name) as wire,
        ):
            certificate = wire.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise CannotContinue(
            error.verify_message.lower().rstrip("."), _remedy(error, name)
        ) from error
    except ssl.SSLError as error:
        raise CannotContinue(
            f"no TLS: {error.reason or error}", "is it plain HTTP? say http://"
        ) from error
    except OSError as error:
        raise CannotContinue(
            f"no answer: {(error.strerror or str(error)).lower()}", "does it run?"
        ) from error
    # Python takes a common name for a host's name where there is no other; no client in Go does
    if not certificate.get("subjectAltName"):
        raise CannotContinue(NO_NAMES, f"make another: entrepot certs --host {name}")
    return judged(certificate, name, now)


def judged(certificate: dict[str, Any], name: str, now: dt.datetime) -> Finding:
    """Say until when a certificate, as `getpeercert` shows it, is good."""
    end = dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), dt.UTC)
    remedy = _RENEW if end - now < _SOON else ""
    found = works("certificate", f"trusted, for {name}, until {end:%Y-%m-%d}")
    return Finding(found.what, found.verdict, found.why, remedy)


def _remedy(error: ssl.SSLCertVerificationError, name: str) -> str:
    said = error.verify_message.lower()
    if "hostname" in said or "ip address" in said:
        return f"make one for it: entrepot certs --host {name}; or say --host as it is called"
    if "expired" in said:
        return _RENEW
    return "clients must be told of its authority: entrepot clients; here: --ca FILE"
