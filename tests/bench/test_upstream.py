"""Tests of the upstream's access log, from which the benchmark counts all fetches."""

from __future__ import annotations

from pathlib import Path

from bench.upstream import Fetch, Fetches, Log, parse, summed

_GET = (
    '127.0.0.1 - - [22/Nov/2026:08:18:25 +0000] "GET /v2/library/app/blobs/sha256:ab HTTP/1.1" '
    '200 4000 "" "Go-http-client/1.1"'
)
_HEAD = _GET.replace("GET", "HEAD").replace(" 4000 ", " 0 ")
_ASKS = _GET.replace("/v2/library/app/blobs/sha256:ab", "/v2/")
_OTHER = 'time="2026-11-22T08:18:25Z" level=info msg="response completed" http.request.method=GET'


def test_only_access_lines_are_read() -> None:
    """Only the access lines of docker-registry are read; it logs each response a second time."""
    assert parse([_OTHER, _GET]) == [Fetch("GET", "/v2/library/app/blobs/sha256:ab", 200, 4000)]


def test_bytes_are_those_of_gets() -> None:
    """The fetched bytes are those of the GETs in the upstream's log; a HEAD has no body."""
    assert summed(parse([_GET, _HEAD])) == Fetches(requests=2, gets=1, sent=4000)


def test_a_request_for_the_api_version_is_no_fetch() -> None:
    """`GET /v2/` is no fetch of content, because it only finds the token server."""
    assert summed(parse([_ASKS])) == Fetches()


def test_fetches_of_other_content_are_left_out() -> None:
    """Fetches of other content, such as a prefetched blob, are left out of the sum."""
    assert summed(parse([_GET]), about="sha256:cd") == Fetches()


def test_reading_the_log_continues_where_it_ended(tmp_path: Path) -> None:
    """A read of the upstream's log continues where the last one ended.

    No line is counted twice, and an incomplete line is left for the next read.
    """
    path = tmp_path / "log"
    path.write_text(f"{_GET}\n{_HEAD[:40]}")
    log = Log(path)
    first = log.fresh()
    with path.open("a") as file:
        file.write(f"{_HEAD[40:]}\n")

    assert [each.method for each in (*first, *log.fresh(), *log.fresh())] == ["GET", "HEAD"]
