"""What HAProxy answers to what is no HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.appliance.supervise.error_files import write_error_files
from tests.appliance.front import Answer, Front

_TAKES_FILES = (3, 3)  # HAProxy's parser, from this version on


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """Return a HAProxy; nothing reaches a worker."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder, Front(Path(folder), 1) as running:
        yield running


def _version() -> tuple[int, int]:
    said = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", said)
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("status", [400, 408, 500, 501])
def test_each_status_of_the_parser_has_an_answer_with_the_envelope(
    tmp_path: Path, status: int
) -> None:
    """Its length is what it says."""
    write_error_files(tmp_path)
    answer = Answer.parse((tmp_path / f"{status}.http").read_bytes())

    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert set(json.loads(answer.body)["errors"][0]) == {"code", "message"}


@pytest.mark.parametrize(
    "request_",
    [b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", b"GET / HTTP/9.x\r\n\r\n"],
    ids=["no HTTP", "header", "version"],
)
def test_what_is_no_http_is_refused(front: Front, request_: bytes) -> None:
    """With the envelope, where HAProxy can."""
    answer = front.say(request_)

    assert answer.status == 400
    kind = "application/json" if _version() >= _TAKES_FILES else "text/html"
    assert answer.headers["content-type"] == kind


def test_what_haproxys_rules_refuse_has_the_envelope(front: Front) -> None:
    """Of the same file."""
    answer = front.say(b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n")

    assert answer.status == 400
    assert json.loads(answer.body)["errors"][0]["code"] == "UNSUPPORTED"
