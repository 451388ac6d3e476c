"""Write the files with error responses for requests that HAProxy cannot parse.

HAProxy can read such responses only from files. The bodies follow the OCI distribution-spec 1.1,
"Error Codes". All other error responses are in haproxy.cfg.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final

from entrepot.runtime.run_names import error_file

_ERRORS = {
    HTTPStatus.BAD_REQUEST: ("UNSUPPORTED", "the registry cannot read the request"),
    HTTPStatus.REQUEST_TIMEOUT: ("UNSUPPORTED", "the request did not arrive in time"),
    HTTPStatus.INTERNAL_SERVER_ERROR: ("UNKNOWN", "internal error of this registry"),
    HTTPStatus.NOT_IMPLEMENTED: ("UNSUPPORTED", "not supported"),
}

_NO_HEADERS: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})


def write_error_files(run: Path, headers: Mapping[str, Sequence[str]] = _NO_HEADERS) -> None:
    """Write the error files to the run directory, before HAProxy starts.

    *headers* has the headers of the setting `http.headers`, which every response gets. Raises:
    OSError.
    """
    own = [
        f"{name}: {', '.join(values)}"
        for name, values in headers.items()
        if name.lower() != "cache-control"
    ]
    for status, (code, message) in _ERRORS.items():
        (run / error_file(status.value)).write_bytes(_response(status, code, message, own))


def _response(status: HTTPStatus, code: str, message: str, own: Sequence[str]) -> bytes:
    body = json.dumps({"errors": [{"code": code, "message": message}]}, separators=(",", ":"))
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        "Content-Type: application/json",
        "Docker-Distribution-Api-Version: registry/2.0",
        "Cache-Control: no-cache",
        f"Content-Length: {len(body)}",
        *own,
    )
    return "\r\n".join([*head, "", body]).encode()
