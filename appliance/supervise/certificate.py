"""Writes the PEM file that HAProxy reads: certificate, chain and key in one file."""

from __future__ import annotations

from pathlib import Path

from entrepot.config.schema import TlsSettings
from entrepot.runtime.atomic_write import write_atomically


def write_pem(tls: TlsSettings, target: Path) -> Path | None:
    """Write certificate and key into *target*, with mode 0600. Return None without a certificate.

    `config.check` has verified that both exist and belong together. Raises: OSError.
    """
    if tls.certificate is None:
        return None
    sources = dict.fromkeys((tls.certificate, tls.key or tls.certificate))
    text = b"\n".join(each.read_bytes() for each in sources)
    write_atomically(target, text, mode=0o600)
    return target
