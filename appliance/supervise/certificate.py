"""Write the PEM files that HAProxy reads: the server's certificate and key, and the client CAs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from entrepot.appliance.supervise.tls_files import TlsPaths
from entrepot.runtime.atomic_write import write_atomically


def write_pem(tls: TlsPaths, target: Path) -> Path | None:
    """Write certificate and key into the file *target*, with mode 0600, and return *target*.

    Return None if no certificate is configured. The caller must have checked with `config.check`
    that certificate and key exist and belong together. Raises: OSError.
    """
    if tls.certificate is None:
        return None
    _write(dict.fromkeys((tls.certificate, tls.key or tls.certificate)), target)
    return target


def write_client_authorities(tls: TlsPaths, target: Path) -> Path | None:
    """Write the CAs of client certificates into *target*, with mode 0600, and return *target*.

    Return None if no such CA is configured. Raises: OSError.
    """
    if tls.certificate is None or not tls.clientcas:
        return None
    _write(dict.fromkeys(tls.clientcas), target)
    return target


def _write(sources: Iterable[Path], target: Path) -> None:
    text = b"\n".join(each.read_bytes() for each in sources)
    write_atomically(target, text, mode=0o600)
