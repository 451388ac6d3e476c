"""The checks that an appliance must pass with each storage driver.

A check gets a running appliance and its upstream `one.test`. The appliance is started with the
variables `SMALL` and the settings `ALLOWED`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from entrepot.datastore.refs import Digest
from tests.images import filler, image
from tests.system.appliance import Appliance
from tests.system.images import KB, MB, of_size
from tests.system.pulls import blob_path, get_blob, manifest_path, pull, pull_blob
from tests.system.pushes import begin, push_blob, push_soon, put_manifest, tags
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

SMALL: Final = {
    "CLEANER_MAXSIZE": "40M",
    "CLEANER_RUNEVERY_TIME": "1s",
    "ENTREPOT_WORKERS": "2",
}
"""With these variables an eviction begins soon after the pulls of `check_eviction`."""

SHORT: Final = {"expiry": "10s"}
"""A section `storage.redirect` with which redirect URLs expire after 10 s.

A blob is evicted only after its redirect URLs have expired.
"""

_CHUNKS: Final = 3
_IMAGES: Final = 15
_OLDER: Final = 5 * MB
"""An upper bound of the bytes that the checks before `check_eviction` pull from the upstream."""

Check = Callable[[Appliance, FakeUpstream], None]


def check_pull(appliance: Appliance, fake: FakeUpstream) -> None:
    """After the first pull of an image, no worker sends an upstream request for later pulls."""
    fake.put_image("pull", "v1", of_size(2 * MB, 500))
    first = pull(appliance.http, "one.test/pull", "v1")
    fake.forget()

    for _ in range(4):
        assert pull(appliance.http, "one.test/pull", "v1") == first
    assert fake.requests == [], [(each.method, each.path) for each in fake.requests]


def check_ranges(appliance: Appliance, fake: FakeUpstream) -> None:
    """A range in the middle or at the end of a stored blob gets 206; one past the end gets 416."""
    made = fake.put_image("range", "v1", of_size(2 * MB, 510))
    pull(appliance.http, "one.test/range", "v1")
    content = made.layers[0]
    name, digest = "one.test/range", Digest.of(content)

    middle = get_blob(appliance.http, name, digest, Range="bytes=1000-1500000")
    end = get_blob(appliance.http, name, digest, Range="bytes=-10")
    none = get_blob(appliance.http, name, digest, Range=f"bytes={len(content)}-")
    head = appliance.http.head(blob_path(name, digest))

    assert (middle.status, middle.body) == (206, content[1000:1_500_001])
    assert (end.status, end.body) == (206, content[-10:])
    assert none.status == 416
    assert (head.status, int(head.headers["content-length"])) == (200, len(content))


def check_push(appliance: Appliance, _: FakeUpstream) -> None:
    """Blobs are pushed in chunks, in one request and by a mount; then the image can be pulled."""
    made = of_size(MB, 520)
    layer = made.layers[0]
    where = begin(appliance.http, "team/push")
    step = len(layer) // _CHUNKS + 1
    for start in range(0, len(layer), step):
        sent = appliance.http.request("PATCH", where, body=layer[start : start + step])
        assert sent.status == 202, sent
        where = sent.headers["location"]
    ended = appliance.http.request("PUT", f"{where}?digest={Digest.of(layer)}", body=b"")
    assert ended.status == 201, ended
    push_soon(appliance.http, "team/push", "v1", made)
    mount = f"/v2/team/mounted/blobs/uploads/?mount={Digest.of(layer)}&from=team/push"
    assert appliance.http.request("POST", mount).status == 201

    assert pull(appliance.http, "team/push", "v1")[0] == made.digest
    assert pull_blob(appliance.http, "team/mounted", Digest.of(layer)) == layer
    assert tags(appliance.http, "team/push") == ["v1"]
    listed = json.loads(appliance.http.get("/v2/_catalog").body)["repositories"]
    assert {"team/push", "team/mounted"} <= set(listed)


def check_delete(appliance: Appliance, _: FakeUpstream) -> None:
    """A deleted tag, manifest or blob gets 404; other repositories keep the same content."""
    made = of_size(100 * KB, 530)
    push_soon(appliance.http, "team/kept", "v1", made)
    push_soon(appliance.http, "team/delete", "v1", made)
    push_soon(appliance.http, "team/delete", "v2", of_size(100 * KB, 531))
    layer = Digest.of(made.layers[0])

    deleted = [
        appliance.http.request("DELETE", path).status
        for path in (
            manifest_path("team/delete", "v2"),
            manifest_path("team/delete", made.digest),
            blob_path("team/delete", layer),
        )
    ]

    assert deleted == [202, 202, 202]
    for path in (manifest_path("team/delete", "v1"), blob_path("team/delete", layer)):
        assert appliance.http.get(path).status == 404
    assert tags(appliance.http, "team/delete") == []
    assert pull(appliance.http, "team/kept", "v1")[0] == made.digest
    push_soon(appliance.http, "team/delete", "v1", made)
    assert pull(appliance.http, "team/delete", "v1")[0] == made.digest


def check_referrers(appliance: Appliance, _: FakeUpstream) -> None:
    """The list of an image's referrers has a pushed signature until the signature is deleted."""
    subject = of_size(50 * KB, 540)
    push_soon(appliance.http, "team/signed", "v1", subject)
    signature = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.signature",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": str(Digest.of(b"{}")),
            "size": 2,
        },
        "layers": [],
        "subject": {
            "mediaType": subject.media_type,
            "digest": str(subject.digest),
            "size": len(subject.manifest),
        },
    }
    body = json.dumps(signature).encode()
    assert push_blob(appliance.http, "team/signed", b"{}").status == 201
    put = put_manifest(
        appliance.http, "team/signed", Digest.of(body), body, str(signature["mediaType"])
    )
    path = f"/v2/team/signed/referrers/{subject.digest}"

    listed = json.loads(appliance.http.get(path).body)["manifests"]
    assert (put.status, [each["digest"] for each in listed]) == (201, [str(Digest.of(body))])

    gone = appliance.http.request("DELETE", manifest_path("team/signed", Digest.of(body)))
    assert gone.status == 202
    assert json.loads(appliance.http.get(path).body)["manifests"] == []


def check_eviction(appliance: Appliance, fake: FakeUpstream) -> None:
    """If clients pull more bytes than the cap, the cleaner evicts the first image.

    The appliance fetches that image again when a client pulls it.
    """
    made = [
        fake.put_image("evict", f"v{n}", image([filler(4 * MB, 550 + n)])) for n in range(_IMAGES)
    ]
    first = Digest.of(made[0].layers[0])
    for number in range(_IMAGES):
        pull(appliance.http, "one.test/evict", f"v{number}")

    def is_evicted() -> bool:
        return appliance.metric("entrepot_evicted_bytes_total") >= _OLDER + 4 * MB

    eventually(is_evicted, what="the first image was evicted", within=60)
    fake.forget()
    assert pull_blob(appliance.http, "one.test/evict", first) == made[0].layers[0]
    assert fake.count("GET", str(first)) == 1
    for n in range(_IMAGES):
        assert pull(appliance.http, "one.test/evict", f"v{n}")[0] == made[n].digest


CHECKS: Final[tuple[Check, ...]] = (
    check_pull,
    check_ranges,
    check_push,
    check_delete,
    check_referrers,
    check_eviction,
)
"""All checks, in an order in which one appliance can pass them: the evictions come last."""
