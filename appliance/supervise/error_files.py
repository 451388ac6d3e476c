"""Writes the answers of HAProxy's own parser, which takes them from files only.

They have the envelope of the OCI distribution-spec 1.1, "Error Codes". haproxy.cfg has all others.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path

_ERRORS = {
    HTTPStatus.BAD_REQUEST: ("UNSUPPORTED", "the request cannot be read"),
    HTTPStatus.REQUEST_TIMEOUT: ("UNSUPPORTED", "the request did not arrive in time"),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("UNKNOWN", "an error of this registry"),
    HTTPStatus.NOT_IMPLEMENTED: ("UNSUPPORTED", "not done here"),
}


def write_error_files(run: Path) -> None:
    """Write them to the run directory, before HAProxy starts. Raises: OSError."""
    for status, (code, message) in _ERRORS.items():
        (run / f"{status.value}.http").write_bytes(_answer(status, code, message))


def _answer(status: HTTPStatus, code: str, message: str) -> bytes:
    body = json.dumps({"errors": [{"code": code, "message": message}]}, separators=(",", ":"))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        "Docker-Distribution-Api-Version: registry/2.0",
        "Cache-Control: no-cache",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join([*head, "", body]).encode()
