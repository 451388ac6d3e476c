"""Check whether clients trust the appliance's TLS certificate, and when it expires."""

from __future__ import annotations

import datetime as dt
import socket
import ssl
from typing import Any

from entrepot.appliance.doctor.finding import CannotContinue, Finding, works
from entrepot.config.certificates import NO_NAMES

_TIMEOUT_S = 5.0
_SOON = dt.timedelta(days=14)
_RENEW = "renew the certificate: entrepot certs"


def context(authority: str | None) -> ssl.SSLContext:
    """Return a TLS context that trusts the system's CAs and the CA *authority*, a PEM text."""
    trusting = ssl.create_default_context()
    if authority:
        trusting.load_verify_locations(cadata=authority)
    return trusting


def check(
    address: tuple[str, int], name: str, trusting: ssl.SSLContext, now: dt.datetime
) -> Finding:
    """Do a TLS handshake with the server at *address*, whose certificate must be for *name*.

    Raises: CannotContinue if the handshake fails, or the certificate has no subjectAltName.
    """
    try:
        with (
            socket.create_connection(address, timeout=_TIMEOUT_S) as plain,
            trusting.wrap_socket(plain, server_hostname=name) as wire,
        ):
            certificate = wire.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise CannotContinue(
            error.verify_message.lower().rstrip("."), _remedy(error, name)
        ) from error
    except ssl.SSLError as error:
        raise CannotContinue(
            f"no TLS: {error.reason or error}",
            "if the appliance uses plain HTTP, give --host http://HOST",
        ) from error
    except OSError as error:
        raise CannotContinue(
            f"no connection: {(error.strerror or str(error)).lower()}",
            "check that the appliance runs",
        ) from error
    # Python accepts a certificate that has a common name but no subjectAltName. Clients written in
    # Go do not.
    if not certificate.get("subjectAltName"):
        raise CannotContinue(NO_NAMES, f"create another certificate: entrepot certs --host {name}")
    return expiry(certificate, name, now)


def expiry(certificate: dict[str, Any], name: str, now: dt.datetime) -> Finding:
    """Return the finding for *certificate*, a map that `SSLSocket.getpeercert` returns.

    If the certificate expires within 14 days, the finding has a remedy.
    """
    end = dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), dt.UTC)
    remedy = _RENEW if end - now < _SOON else ""
    found = works("certificate", f"trusted, for {name}, until {end:%Y-%m-%d}")
    return Finding(found.what, found.verdict, found.why, remedy)


def _remedy(error: ssl.SSLCertVerificationError, name: str) -> str:
    message = error.verify_message.lower()
    if "hostname" in message or "ip address" in message:
        return (
            f"create a certificate for this name: entrepot certs --host {name};"
            " or give --host with a name in the certificate"
        )
    if "expired" in message:
        return _RENEW
    return "clients need the certificate's CA: entrepot clients; for this check: --ca FILE"
