"""`Log` reads, and `summed` counts, the requests that the upstream has logged."""

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
    """Of docker-registry's two log lines about each response, only the access line is read."""
    assert parse([_OTHER, _GET]) == [Fetch("GET", "/v2/library/app/blobs/sha256:ab", 200, 4000)]


def test_bytes_are_those_of_gets() -> None:
    """A HEAD counts as a request, but adds no fetched bytes, because its response has no body."""
    assert summed(parse([_GET, _HEAD])) == Fetches(requests=2, gets=1, sent=4000)


def test_a_request_for_the_api_version_is_no_fetch() -> None:
    """`GET /v2/` does not count, because a cache sends it only to find the token server."""
    assert summed(parse([_ASKS])) == Fetches()


def test_fetches_of_other_content_are_left_out() -> None:
    """If only requests for one digest are counted, requests for other content are left out."""
    assert summed(parse([_GET]), about="sha256:cd") == Fetches()


def test_reading_the_log_continues_where_it_ended(tmp_path: Path) -> None:
    """A read of the upstream's log continues where the previous read ended.

    No line is counted twice, and an incomplete line is read only by the next call.
    """
    path = tmp_path / "log"
    path.write_text(f"{_GET}\n{_HEAD[:40]}")
    log = Log(path)
    first = log.fresh()
    with path.open("a") as file:
        file.write(f"{_HEAD[40:]}\n")

    assert [each.method for each in (*first, *log.fresh(), *log.fresh())] == ["GET", "HEAD"]
