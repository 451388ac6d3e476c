"""Translate the settings for the TLS certificate of an object storage to options of obstore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from entrepot.datastore.errors import StorageBroken


def tls_options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of obstore's clients for the settings `skipverify` and `ca`.

    Raises: StorageBroken if the file `ca`, which has certificates of authorities, cannot be read.
    """
    options: dict[str, Any] = {}
    if parameters["skipverify"]:
        options["allow_invalid_certificates"] = True
    if parameters["ca"] is not None:
        options["root_certificate"] = content(parameters["ca"])
    return options


def content(path: Path) -> str:
    """Return the text of a file. Raises: StorageBroken if the file cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageBroken(f"{path} cannot be read: {error}") from error
