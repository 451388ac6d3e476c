"""The certificate as HAProxy wants it: one PEM file with certificate, chain and key."""

from __future__ import annotations

import os
from pathlib import Path

from config.schema import TlsSettings


def gather(tls: TlsSettings, target: Path) -> Path | None:
    """Write certificate and key into *target*, for us alone to read; None without a certificate.

    That they are there and belong together, `config.check` has seen. Raises: OSError.
    """
    if tls.certificate is None:
        return None
    sources = dict.fromkeys((tls.certificate, tls.key or tls.certificate))
    text = b"\n".join(each.read_bytes() for each in sources)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    return target
