"""The benchmark parses the output of wrk and the responses of servers correctly."""

from __future__ import annotations

import pytest

from bench.blob_load import main as blob_load
from bench.errors import LoadFailed
from bench.head_load import p99, request
from bench.load import Outcome, parse_wrk
from bench.wire import Broken, length_in

_WRK = """\
Running 2s test @ http://127.0.0.1:1/v2/x
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   131.90us  355.95us  10.47ms   96.66%
    Req/Sec    98.60k    18.29k  130.46k    60.00%
  Latency Distribution
     50%   64.00us
     99%    1.63ms
  196187 requests in 2.00s, 310.01MB read
Requests/sec:  98065.10
"""


def test_wrk_output_gives_requests_and_p99() -> None:
    """The number of requests and the 99th percentile are read from the output of wrk."""
    assert parse_wrk(_WRK, 2) == Outcome(196_187, 2, p99=0.00163)


def test_wrk_errors_and_refusals_are_failures() -> None:
    """Socket errors and responses other than 2xx and 3xx in wrk's output count as failures."""
    text = _WRK + "  Socket errors: connect 0, read 3, write 0, timeout 4\n"
    text += "  Non-2xx or 3xx responses: 10\n"

    assert parse_wrk(text, 2).failures == 17


def test_wrk_without_a_result_is_an_error() -> None:
    """If wrk prints no result, for example only its usage message, LoadFailed is raised."""
    with pytest.raises(LoadFailed):
        parse_wrk("Usage: wrk <options> <url>", 2)


def test_p99_is_the_99th_percentile() -> None:
    """`p99` returns the 99th percentile, which is the slowest of 100 values, but not of 200."""
    assert p99([0.9, *[0.1] * 98, 0.5]) == 0.9
    assert p99([*[0.1] * 199, 0.9]) == 0.1


def test_a_head_request_ends_with_an_empty_line() -> None:
    """A HEAD request ends with an empty line; without it, the server would wait for more bytes."""
    words = request("/v2/x", {"Accept": "a, b"})

    assert words == b"HEAD /v2/x HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: a, b\r\n\r\n"


def test_a_length_is_read_in_any_case() -> None:
    """The name of the header Content-Length can be in lower case, as HTTP/1.1 permits."""
    assert length_in(b"HTTP/1.1 200 OK\r\ncontent-length: 12") == 12


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 206 OK\r\nContent-Length: 5", b"HTTP/1.1 200 OK\r\nServer: x", b""],
    ids=["no 200", "no length", "nothing"],
)
def test_an_incomplete_response_is_broken(head: bytes) -> None:
    """A response without status 200 or without a length raises Broken, so it is not counted."""
    with pytest.raises(Broken):
        length_in(head)


def test_clients_without_a_server_have_failed(capsys: pytest.CaptureFixture[str]) -> None:
    """If no server listens, all requests of the clients count as failures; no error is raised."""
    task = {
        "port": 1,
        "tls": False,
        "path": "/",
        "headers": {},
        "clients": 2,
        "times": 3,
        "size": 1,
    }

    assert blob_load(task)["failures"] == 6
    assert "refused" in capsys.readouterr().err
