"""The certificate as HAProxy wants it: one PEM file with certificate, chain and key."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from entrepot.config.schema import TlsSettings

NAME: Final = "certs.pem"


def gather(tls: TlsSettings, target: Path) -> Path | None:
    """Write certificate and key into *target*, for us alone to read; None without a certificate.

    That they are there and belong together, `config.check` has seen. Raises: OSError.
    """
    if tls.certificate is None:
        return None
    sources = dict.fromkeys((tls.certificate, tls.key or tls.certificate))
    text = b"\n".join(each.read_bytes() for each in sources)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    Path(temporary).rename(target)
    return target
