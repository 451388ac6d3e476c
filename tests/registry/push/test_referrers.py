"""The registry lists the referrers of a manifest (OCI distribution-spec 1.1, end-12)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from falcon.testing import Result

from entrepot.datastore.manifest import LARGEST, OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.refs import Digest, Repository
from tests import images
from tests.images import Image, filler, image
from tests.registry.push.pushing import NAME, Pushing, document

_SUBJECT = image([filler(1000, 1)])
_SIGNATURE = "application/vnd.example.signature.v1+json"
_SBOM = "application/vnd.example.sbom.v1"


def _artifact(number: int, kind: str = _SIGNATURE, **annotations: str) -> Image:
    made = images.artifact(_SUBJECT, f"artifact {number}".encode(), kind)
    if not annotations:
        return made
    body = document(made.manifest, annotations=annotations)
    return Image(body, made.media_type, made.config, made.layers, made.architecture)


def _listed(answer: Result) -> list[str]:
    return [each["digest"] for each in answer.json["manifests"]]


def _about(p: Pushing, subject: object = _SUBJECT.digest, query: str = "") -> Result:
    answer = p.ask("GET", f"referrers/{subject}{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == OCI_INDEX
    assert answer.json["schemaVersion"] == 2
    assert answer.json["mediaType"] == OCI_INDEX
    return answer


@pytest.mark.parametrize("name", [NAME, "team/none"])
def test_an_unknown_subject_has_an_empty_list(p: Pushing, name: str) -> None:
    """If a subject is unknown, the response is a 200 with an empty list of referrers.

    After a 404 a client would assume that the registry has no such lists, and would look for a tag
    that lists the referrers.
    """
    answer = p.send("GET", f"/v2/{name}/referrers/{Digest.of(b'unknown')}")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == OCI_INDEX
    assert answer.json == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def test_an_invalid_digest_is_400(p: Pushing) -> None:
    """A request for the referrers of a tag, instead of a digest, gets 400."""
    assert p.ask("GET", "referrers/v1").status_code == 400


def test_a_push_with_a_subject_is_confirmed_and_listed(p: Pushing) -> None:
    """The response to the push of a manifest with a subject has the header OCI-Subject.

    After the push, the list of the subject's referrers has the manifest's type, size and
    annotations.
    """
    p.image(_SUBJECT)
    made = _artifact(1, signer="somebody")
    for blob in made.blobs:
        p.blob(blob)

    done = p.manifest(made.manifest, made.media_type, made.digest)

    assert done.headers["oci-subject"] == str(_SUBJECT.digest)
    assert _about(p).json["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(made.digest),
            "size": len(made.manifest),
            "artifactType": _SIGNATURE,
            "annotations": {"signer": "somebody"},
        }
    ]


def test_annotations_that_are_not_strings_are_left_out(p: Pushing) -> None:
    """The list of referrers omits annotations whose values are not strings.

    Clients cannot parse a list with other values, so one referrer would make the whole list
    unusable.
    """
    p.image(_SUBJECT)
    odd = _artifact(1, a=7, b={"c": [1]}, d=None, e="text")  # type: ignore[arg-type]
    for blob in odd.blobs:
        p.blob(blob)

    assert p.manifest(odd.manifest, odd.media_type, odd.digest).status_code == 201
    assert [each["annotations"] for each in _about(p).json["manifests"]] == [{"e": "text"}]


def test_a_push_without_a_subject_has_no_oci_subject(p: Pushing) -> None:
    """The response to the push of a manifest without a subject has no header OCI-Subject."""
    p.image(_SUBJECT, "v1")

    again = p.manifest(_SUBJECT.manifest, _SUBJECT.media_type, "v1")

    assert "oci-subject" not in again.headers


def test_an_artifact_without_a_type_has_that_of_its_config(p: Pushing) -> None:
    """If a referrer has no artifact type, it is listed with its config's media type.

    See OCI distribution-spec 1.1, "Listing Referrers".
    """
    made = _artifact(1)
    config = json.loads(made.manifest)["config"] | {"mediaType": _SBOM}
    body = document(made.manifest, artifactType=None, config=config)
    for blob in made.blobs:
        p.blob(blob)
    p.manifest(body, OCI_MANIFEST, "sbom")

    (entry,) = _about(p).json["manifests"]

    assert entry["artifactType"] == _SBOM


@pytest.mark.parametrize("kind", [_SBOM, None])
def test_an_index_can_have_a_subject(p: Pushing, kind: str | None) -> None:
    """An OCI index with a subject is listed as a referrer, with its artifact type if it has one."""
    subject = images.descriptor(_SUBJECT.manifest, OCI_MANIFEST)
    changes: dict[str, Any] = {"subject": subject, "artifactType": kind}
    body = document(images.index([])[0], **changes)
    p.manifest(body, OCI_INDEX, "about")

    (entry,) = _about(p).json["manifests"]

    assert entry.get("artifactType") == kind
    assert entry["mediaType"] == OCI_INDEX


def test_a_referrer_may_be_pushed_before_its_subject(p: Pushing) -> None:
    """A referrer can be pushed before its subject.

    The referrer is still listed after the subject is deleted.
    """
    before, after = _artifact(1), _artifact(2)
    p.image(before, before.digest)
    p.image(_SUBJECT)
    p.image(after, "signature")
    expected = sorted(str(each.digest) for each in (before, after))
    assert _listed(_about(p)) == expected

    p.ask("DELETE", f"manifests/{_SUBJECT.digest}")

    assert _listed(_about(p)) == expected


def test_a_deleted_referrer_is_not_listed(p: Pushing) -> None:
    """A referrer is listed until a client deletes it by digest.

    A referrer without a tag is also listed.
    """
    made = _artifact(1)
    p.image(made, "signature")
    p.ask("DELETE", "manifests/signature")
    assert _listed(_about(p)) == [str(made.digest)]

    p.ask("DELETE", f"manifests/{made.digest}")

    assert _listed(_about(p)) == []
    assert list(p.repositories.referrers(Repository(NAME), _SUBJECT.digest)) == []


def test_referrers_are_listed_by_repository(p: Pushing) -> None:
    """The list of referrers contains only manifests of the repository in the URL."""
    made = _artifact(1)
    p.image(made, "signature", name="team/other")

    assert _listed(_about(p)) == []


def test_referrers_are_filtered_by_artifact_type(p: Pushing) -> None:
    """With `artifactType`, only referrers of that type are listed, and a header names the filter.

    The plus sign in a type may be escaped or not.
    """
    signature, sbom = _artifact(1), _artifact(2, _SBOM)
    for made in (signature, sbom):
        p.image(made, made.digest)

    for text in (_SIGNATURE, _SIGNATURE.replace("+", "%2B")):
        answer = _about(p, query=f"?artifactType={text}")
        assert _listed(answer) == [str(signature.digest)]
        assert answer.headers["oci-filters-applied"] == "artifactType"
    assert "oci-filters-applied" not in _about(p).headers
    assert _listed(_about(p, query="?artifactType=none")) == []


def test_referrers_are_listed_in_pages(p: Pushing) -> None:
    """Each page of referrers except the last has a Link, whose URL has the filter of the request.

    All pages together list each referrer once.
    """
    made = [_artifact(number) for number in range(5)]
    for each in [*made, _artifact(9, _SBOM)]:
        p.image(each, each.digest)
    found, url = [], f"/v2/{NAME}/referrers/{_SUBJECT.digest}?n=2&artifactType={_SIGNATURE}"
    pages = 0
    while url:
        answer = p.send("GET", url)
        assert len(_listed(answer)) <= 2
        found += _listed(answer)
        pages += 1
        url = answer.headers.get("link", "").partition("<")[2].partition(">")[0]

    assert found == sorted(str(each.digest) for each in made)
    assert pages == 3


def test_a_page_is_no_larger_than_a_manifest(p: Pushing) -> None:
    """A page of referrers is at most 4 MiB, because clients read no larger index.

    If not all referrers fit, the page has a Link to the next page.
    """
    made = [_artifact(number, note="x" * (LARGEST // 2)) for number in range(3)]
    for each in made:
        p.image(each, each.digest)

    first = _about(p)

    assert len(_listed(first)) == 1
    assert 'rel="next"' in first.headers["link"]


def test_manifests_under_the_referrers_tag_are_listed(p: Pushing) -> None:
    """The manifests in an index under the referrers tag of a subject are listed as referrers.

    If a manifest in the index does not have this subject, it is not listed. Clients that do not
    support the list of referrers push such an index. The registry also lists and serves the
    referrers tag like any other tag.
    """
    made, other = _artifact(1), image([filler(500, 7)])
    for each in (_SUBJECT, made, other):
        p.image(each, each.digest)
    p.repositories.remove_referrer(Repository(NAME), _SUBJECT.digest, made.digest)
    body, media_type = images.index([made, other])
    tag = str(_SUBJECT.digest).replace(":", "-")
    p.manifest(body, media_type, tag)

    (entry,) = _about(p).json["manifests"]

    assert entry["digest"] == str(made.digest)
    assert entry["artifactType"] == _SIGNATURE
    assert p.tags() == [tag]
