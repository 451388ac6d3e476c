"""Tests of `PullEvents`, which makes the events of pulls from lines of the access log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from entrepot.notifications.endpoint import Source
from entrepot.notifications.pulls import PullEvents

DIGEST = Digest.of(b"content")
ID = "01234567-89ab-4def-8123-456789abcdef"


class Contents:
    """A store with the sizes and references that the test has set; it counts look-ups."""

    def __init__(self) -> None:
        self.sizes: dict[Digest, int] = {}
        self.listed: dict[Digest, list[Mapping[str, Any]]] = {}
        self.asked = 0

    def size(self, digest: Digest) -> int | None:
        """Return the size of the content, or None if the test has set none."""
        self.asked += 1
        return self.sizes.get(digest)

    def references(self, digest: Digest) -> Sequence[Mapping[str, Any]] | None:
        """Return the references of the manifest, or None if the test has set none."""
        self.asked += 1
        return self.listed.get(digest)


def line(number: str = ID, **fields: Any) -> bytes:
    """Return the line of a pull by tag in the access log; *fields* replace values of the line."""
    document = {
        "start": 1_790_000_000_123,
        "duration": 2,
        "id": number,
        "port": "4711",
        "method": "GET",
        "status": 200,
        "termination": "--",
        "bytes": 700,
        "digest": str(DIGEST),
        "repository": "docker.io/library/alpine",
        "kind": "manifest",
        "cache": "entrepot; hit",
        "user": "",
        "source": "10.0.0.9",
        "uri": "/v2/library/alpine/manifests/3.20?ns=docker.io",
        "host": "cache:5000",
        "agent": "containerd/2",
        "scheme": "http",
        "type": "application/vnd.oci.image.index.v1+json",
        "size": "417",
    } | fields
    return json.dumps(document, separators=(",", ":")).replace("/", "\\/").encode()


def made(*lines: bytes, contents: Contents | None = None, references: bool = False) -> list[Any]:
    """Return the parsed events of the pulls in *lines*."""
    source = Source("vm:5000", "i", references=references)
    found = PullEvents(source, contents or Contents()).of(lines)
    return [json.loads(each.text) for each in found]


def test_the_line_of_a_pull_becomes_its_event() -> None:
    """The event of a pull contains the values of its line in the access log."""
    assert made(line()) == [
        {
            "id": "76543210-89ab-4def-8123-456789abcdef",
            "timestamp": "2026-09-21T14:13:20.125Z",
            "action": "pull",
            "target": {
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "size": 417,
                "digest": str(DIGEST),
                "length": 417,
                "repository": "docker.io/library/alpine",
                "url": f"http://cache:5000/v2/docker.io/library/alpine/manifests/{DIGEST}",
                "tag": "3.20",
            },
            "request": {
                "id": ID,
                "addr": "10.0.0.9:4711",
                "host": "cache:5000",
                "method": "GET",
                "useragent": "containerd/2",
            },
            "actor": {},
            "source": {"addr": "vm:5000", "instanceID": "i"},
        }
    ]


def test_equal_requests_have_events_that_differ_in_time_and_id() -> None:
    """If a client sends two equal requests, their events differ only in time, IDs and port."""
    second = line("fedcba98-89ab-4def-8123-456789abcdef", start=1_790_000_001_000, port="5")
    first, other = made(line(), second)

    assert first["id"] != other["id"]
    assert other["timestamp"] == "2026-09-21T14:13:21.002Z"
    assert other["request"]["addr"] == "10.0.0.9:5"
    assert first["target"] == other["target"]


def test_a_line_that_is_read_again_gives_the_same_event() -> None:
    """If a killed logger reads a line again after its restart, the event has the same ID.

    So a receiver can recognise an event that it receives twice.
    """
    assert made(line()) == made(line())


@pytest.mark.parametrize(
    ("fields", "is_pull"),
    [
        ({"method": "HEAD"}, True),
        ({"status": 304}, False),
        ({"status": 404}, False),
        ({"method": "PUT", "status": 201}, False),
        ({"digest": ""}, False),
        ({"kind": "blob"}, True),
        ({"kind": "blob", "method": "HEAD"}, True),
        ({"kind": "blob", "status": 206}, True),
        ({"kind": "blob", "status": 304}, True),
        ({"kind": "blob", "status": 416}, False),
        ({"kind": "tags"}, False),
        ({"kind": "index"}, True),
    ],
)
def test_the_requests_that_are_pulls_are_those_of_docker_distribution(
    fields: dict[str, Any], *, is_pull: bool
) -> None:
    """A request counts as a pull in the same cases as in docker distribution.

    The cases are GET and HEAD of a manifest or blob with status 200, or of a blob with 206 or 304.
    """
    assert bool(made(line(**fields))) is is_pull


def test_a_blob_has_the_media_type_of_all_blobs() -> None:
    """The event of a pulled blob always has the media type `application/octet-stream`."""
    found = made(line(kind="blob", status=206, type="multipart/byteranges", uri="/v2/a/blobs/x"))

    assert found[0]["target"]["mediaType"] == "application/octet-stream"
    assert "/blobs/" in found[0]["target"]["url"]
    assert "tag" not in found[0]["target"]


def test_a_manifest_by_digest_has_no_tag() -> None:
    """If a client pulls by digest, the event has no tag."""
    found = made(line(uri=f"/v2/library/alpine/manifests/{DIGEST}"))

    assert "tag" not in found[0]["target"]


def test_a_size_that_the_response_lacks_is_looked_up() -> None:
    """If a line has no size, the size is looked up in the store until it is found."""
    contents = Contents()
    events = PullEvents(Source("vm", "i"), contents)
    unknown = line(kind="blob", size="")
    before = json.loads(events.of([unknown])[0].text)
    contents.sizes[DIGEST] = 5
    after = json.loads(events.of([unknown])[0].text)
    asked = contents.asked
    events.of([unknown])

    assert "size" not in before["target"]
    assert after["target"]["size"] == after["target"]["length"] == 5
    assert contents.asked == asked


def test_references_are_listed_only_if_they_are_configured() -> None:
    """With `includereferences`, a pull's event lists the descriptors of the stored manifest."""
    contents = Contents()
    contents.listed[DIGEST] = [{"digest": "sha256:1"}]

    assert made(line(), contents=contents, references=True)[0]["target"]["references"] == [
        {"digest": "sha256:1"}
    ]
    assert "references" not in made(line(), contents=contents)[0]["target"]


def test_lines_of_an_earlier_start_without_endpoints_make_no_events() -> None:
    """A line without a request ID causes no event.

    HAProxy wrote such lines before an endpoint was configured.
    """
    document = json.loads(line())
    del document["id"]
    old = json.dumps(document, separators=(",", ":")).encode()

    assert made(old, b"garbage", b'{"start":1790000000123,"duration":1,"id":"x"}') == []


def test_a_user_is_the_actor() -> None:
    """If the client has logged in, its user is the actor of the event."""
    assert made(line(user='b"b'))[0]["actor"] == {"name": 'b"b'}


def test_an_ipv6_address_is_in_brackets() -> None:
    """If the client has an IPv6 address, the event contains it in brackets before the port."""
    assert made(line(source="2001:db8::1"))[0]["request"]["addr"] == "[2001:db8::1]:4711"


@pytest.mark.parametrize("text", ['"}]},{"events":[', "\\", "\u2028", "\ud800"])
def test_hostile_values_stay_inside_their_field(text: str) -> None:
    """Quotes and control characters in a user agent are escaped in the JSON of the event."""
    assert made(line(agent=text))[0]["request"]["useragent"] == text


def test_clients_that_pull_the_same_share_a_template() -> None:
    """If many clients pull the same image, their events share one template in memory.

    A template is the JSON of an event without its time, IDs and client address.
    """
    lines = [line(source=f"10.0.{number // 256}.{number % 256}") for number in range(5000)]
    events = PullEvents(Source("vm", "i"), Contents())
    found = [json.loads(each.text)["request"]["addr"] for each in events.of(lines)]

    assert found[:2] == ["10.0.0.0:4711", "10.0.0.1:4711"]
    assert len(set(found)) == 5000
    assert len(events._kept) == 1


def test_an_address_is_found_whatever_other_values_are() -> None:
    """If a header contains the text of the address field, the event still has the real address."""
    (found,) = made(line(agent=',"source":"10.9.9.9', host=',"source":"10.8.8.8"'))

    assert found["request"]["addr"] == "10.0.0.9:4711"
    assert found["request"]["useragent"] == ',"source":"10.9.9.9'


@pytest.mark.slow
def test_the_remembered_events_are_bounded() -> None:
    """If all lines differ, at most 4,096 templates stay in memory."""
    events = PullEvents(Source("vm", "i"), Contents())
    for number in range(5000):
        events.of([line(agent=f"agent {number}")])

    assert len(events._kept) <= 4096
