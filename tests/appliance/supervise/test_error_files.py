"""Test the OCI errors with which HAProxy responds to requests that are not valid HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.appliance.supervise.error_files import write_error_files
from tests.appliance.haproxy import Haproxy, Response

# from this version on HAProxy's parser sends the error files of the configuration
_TAKES_FILES = (3, 3)


@pytest.fixture(scope="module")
def haproxy() -> Iterator[Haproxy]:
    """Run HAProxy; no request of these tests reaches a worker."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, Haproxy(Path(folder), 1) as running:
        yield running


def _version() -> tuple[int, int]:
    output = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", output)
    assert found is not None
    return int(found[1]), int(found[2])


def test_the_responses_of_the_parser_have_the_headers_of_every_response(tmp_path: Path) -> None:
    """The error files of HAProxy have the headers that are configured for all responses."""
    write_error_files(tmp_path, {"X-Own": ["a", "b"], "cache-control": ["max-age=9"]})
    response = Response.parse((tmp_path / "400.http").read_bytes())

    assert response.headers["x-own"] == "a, b"
    assert response.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("status", [400, 408, 500, 501])
def test_each_status_of_the_parser_has_a_response_with_the_oci_envelope(
    tmp_path: Path, status: int
) -> None:
    """Each error status of HAProxy's parser has a response with the OCI envelope.

    The response's Content-Length is correct.
    """
    write_error_files(tmp_path)
    response = Response.parse((tmp_path / f"{status}.http").read_bytes())

    assert response.status == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.body))
    assert set(json.loads(response.body)["errors"][0]) == {"code", "message"}


@pytest.mark.parametrize(
    "request_",
    [b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", b"GET / HTTP/9.x\r\n\r\n"],
    ids=["no HTTP", "header", "version"],
)
def test_a_malformed_request_is_refused(haproxy: Haproxy, request_: bytes) -> None:
    """HAProxy refuses a malformed request; from version 3.3 on, with the OCI envelope."""
    response = haproxy.send_raw(request_)

    assert response.status == 400
    kind = "application/json" if _version() >= _TAKES_FILES else "text/html"
    assert response.headers["content-type"] == kind


def test_a_request_that_haproxys_rules_refuse_gets_the_oci_envelope(haproxy: Haproxy) -> None:
    """A request that HAProxy's rules refuse gets the OCI envelope of the status's error file."""
    response = haproxy.send_raw(b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n")

    assert response.status == 400
    assert json.loads(response.body)["errors"][0]["code"] == "UNSUPPORTED"
