"""Tests how the keys of `storage.s3` affect the requests to the bucket."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.drivers.objects.client import ObjectClient
from entrepot.datastore.drivers.s3 import bucket_of, shared_credentials
from entrepot.datastore.errors import StorageBroken
from tests.s3_front import S3Front
from tests.s3_signatures import Account
from tests.s3_storage import parameters


def _put(s3: S3Front, **others: object) -> Mapping[str, str]:
    """Write an object with the keys *others* of `storage.s3`; return the headers of the request."""
    ObjectClient(bucket_of(dict(parameters(s3, Path(), **others)))).put("key", b"content")
    (seen,) = s3.requests
    return seen.headers


@pytest.mark.parametrize(
    ("keys", "header", "value"),
    [
        ({"encrypt": True}, "x-amz-server-side-encryption", "AES256"),
        ({"encrypt": True, "keyid": "key"}, "x-amz-server-side-encryption", "aws:kms"),
        (
            {"encrypt": True, "keyid": "key"},
            "x-amz-server-side-encryption-aws-kms-key-id",
            "key",
        ),
        ({"storageclass": "standard_ia"}, "x-amz-storage-class", "STANDARD_IA"),
        ({"storageclass": "NONE"}, "x-amz-storage-class", None),
        ({"storageclass": "STANDARD"}, "x-amz-storage-class", None),
        ({"useragent": "a program/1"}, "user-agent", "a program/1"),
    ],
)
def test_each_key_has_its_effect(
    s3: S3Front, keys: dict[str, object], header: str, value: str | None
) -> None:
    """The keys of `storage.s3` for encryption, storage class and user agent set request headers."""
    assert _put(s3, **keys).get(header) == value


@pytest.mark.parametrize("root", [None, "", "/", "/a/b/", "a/b"])
def test_the_prefix_is_that_of_docker_distribution(s3: S3Front, root: str | None) -> None:
    """`rootdirectory` is the prefix of each key in the bucket; slashes at its ends are removed."""
    _put(s3, rootdirectory=root)

    assert s3.requests[0].key == "/".join(filter(None, [(root or "").strip("/"), "key"]))


def test_without_a_scheme_secure_decides(s3: S3Front) -> None:
    """If `regionendpoint` has no scheme, `secure` decides whether TLS is used.

    By default TLS is used.
    """
    host = s3.url.removeprefix("http://")
    _put(s3, regionendpoint=host, secure=False)
    with pytest.raises(StorageBroken):
        ObjectClient(bucket_of(dict(parameters(s3, Path(), regionendpoint=host)))).head("key")
    assert len(s3.requests) == 1


_AWS = {"regionendpoint": None, "forcepathstyle": False, "bucket": "images"}


@pytest.mark.parametrize(
    ("keys", "url"),
    [
        ({}, "https://images.s3.eu-test-1.amazonaws.com"),
        ({"secure": False}, "http://images.s3.eu-test-1.amazonaws.com"),
        ({"forcepathstyle": True}, "https://s3.eu-test-1.amazonaws.com"),
        ({"bucket": "my.images"}, "https://s3.eu-test-1.amazonaws.com"),
        ({"region": "cn-north-1"}, "https://images.s3.cn-north-1.amazonaws.com.cn"),
        ({"usedualstack": True}, "https://images.s3.dualstack.eu-test-1.amazonaws.com"),
        ({"accelerate": True}, "https://images.s3-accelerate.amazonaws.com"),
        (
            {"accelerate": True, "usedualstack": True},
            "https://images.s3-accelerate.dualstack.amazonaws.com",
        ),
        ({"usefipsendpoint": True}, "https://images.s3-fips.eu-test-1.amazonaws.com"),
        ({"regionendpoint": "https://minio:9000/"}, "https://images.minio:9000"),
        (
            {"regionendpoint": "https://minio:9000/", "forcepathstyle": True},
            "https://minio:9000",
        ),
    ],
)
def test_the_url_is_that_of_the_service(
    running: S3Front, keys: dict[str, object], url: str
) -> None:
    """The keys determine the host of the service, and whether it contains the bucket's name."""
    bucket = bucket_of(dict(parameters(running, Path(), **{**_AWS, **keys})))

    assert bucket.config["endpoint"] == url
    has_bucket = url.partition("://")[2].startswith("images.")
    assert bucket.config["virtual_hosted_style_request"] is has_bucket


def test_tls_is_verified_with_the_authorities_of_the_operator(
    running: S3Front, tmp_path: Path
) -> None:
    """The key `ca` adds trusted certificate authorities; `skipverify` accepts any certificate."""
    authority = tmp_path / "ca.pem"
    authority.write_text("the PEM")

    def client(**others: object) -> Mapping[str, Any]:
        return bucket_of(dict(parameters(running, Path(), **others))).client

    assert client(ca=authority)["root_certificate"] == "the PEM"
    assert client(skipverify=True)["allow_invalid_certificates"] is True
    assert {"root_certificate", "allow_invalid_certificates"}.isdisjoint(client())
    with pytest.raises(StorageBroken, match="cannot be read"):
        client(ca=tmp_path / "absent")


# ---- the shared credentials file

_NO_KEY = {"accesskey": None, "secretkey": None}


def test_a_profile_of_the_shared_credentials_file_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no key is configured, requests are signed with a key of AWS's shared credentials file.

    AWS's environment variables name the file and the profile.
    """
    account = Account(token="of a session")
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n"
        f"[ours]\naws_access_key_id = {account.key}\naws_secret_access_key = {account.secret}\n"
        f"aws_session_token = {account.token}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "ours")
    with S3Front(account) as s3:
        _put(s3, **_NO_KEY)

        assert s3.refused == []


@pytest.mark.parametrize(
    ("environ", "is_used"),
    [
        ({"HOME": "{folder}"}, True),
        ({"HOME": "/nonexistent"}, False),
        ({"HOME": "{folder}", "AWS_ACCESS_KEY_ID": "AKIA"}, False),
        ({"HOME": "{folder}", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, False),
        ({"HOME": "{folder}", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://a"}, False),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}, True),
    ],
)
def test_the_file_is_used_unless_a_variable_precedes_it(
    tmp_path: Path, environ: dict[str, str], *, is_used: bool
) -> None:
    """The shared credentials file is used if it exists and no variable has other credentials.

    If a variable names an absent file, the function that `shared_credentials` returns reports the
    absence.
    """
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\n")
    given = {name: value.replace("{folder}", str(tmp_path)) for name, value in environ.items()}

    assert (shared_credentials(given) is not None) is is_used
