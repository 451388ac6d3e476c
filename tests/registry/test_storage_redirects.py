"""`storage.redirect:` and `middleware.storage:` determine the URL to which workers redirect."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.drivers.table import open_storage
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.registry.cloudfront import cloudfront_signer
from entrepot.registry.pullthrough.redirects import Redirects
from entrepot.registry.storage_redirects import redirects
from tests.config.config_folder import ConfigFolder

CONTENT = bytes(70_000)
DIGEST = Digest.of(CONTENT)
PATH = f"docker/registry/v2/blobs/sha256/{DIGEST.hex[:2]}/{DIGEST.hex}/data"
S3 = "s3: {region: r, bucket: b, accesskey: a, secretkey: s, rootdirectory: /images/}"


@pytest.fixture
def config_folder(tmp_path: Path) -> ConfigFolder:
    """Return a folder without a configuration file."""
    return ConfigFolder(tmp_path)


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    """Return a private key for signing CloudFront URLs."""
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture
def key_file(key: RSAPrivateKey, tmp_path: Path) -> Path:
    """Write the private key to a file in the PEM form that Amazon uses; return the file's path."""
    path = tmp_path / "cloudfront.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return path


def _redirects(folder: ConfigFolder, text: str) -> Redirects | None:
    """Return the redirects for the configuration *text*; the data directory contains the blob."""
    folder.write(text)
    place = "ENTREPOT_STATEDIR" if "s3:" in text else "REGISTRYDIR"
    settings = folder.settings(**{place: str(folder.file.parent / "data")})
    index = MemoryIndex()
    index.record(DIGEST, len(CONTENT) + OVERHEAD, ContentKind.BLOB, time.time())
    storage = open_storage(settings.storage, time.time)
    if settings.storage.driver == "filesystem":
        storage.write(PATH, CONTENT)
    return redirects(settings, storage, index, time.time)


def test_middleware_decides_where_clients_fetch_a_blob(config_folder: ConfigFolder) -> None:
    """With the middleware `redirect`, clients are redirected to its base URL plus the blob's path.

    If `middleware.storage:` has two enabled entries, the last is used. Disabled entries are
    ignored.
    """
    other = "{name: redirect, options: {baseurl: 'https://first.test'}}"
    off = "{name: redirect, disabled: true, options: {baseurl: 'https://off.test'}}"
    made = _redirects(
        config_folder,
        "middleware: {storage: ["
        f"{other}, {{name: redirect, options: {{baseurl: 'https://cdn.test/a/'}}}}, {off}]}}",
    )

    assert made is not None
    assert made.url(DIGEST, len(CONTENT)) == f"https://cdn.test/a/{PATH}"
    assert made.url(DIGEST, 64 * 1024) is None
    assert made.url(Digest.of(b"absent"), len(CONTENT)) is None


def test_without_middleware_only_a_bucket_redirects(config_folder: ConfigFolder) -> None:
    """Without middleware, clients are redirected only if the content is in a bucket.

    `storage.redirect.disable` disables all redirects.
    """
    target = "middleware: {storage: [{name: redirect, options: {baseurl: 'https://cdn.test'}}]}"

    assert _redirects(config_folder, "version: 0.1") is None
    assert _redirects(config_folder, f"storage: {{redirect: {{disable: true}}}}\n{target}") is None
    assert _redirects(config_folder, f"storage: {{{S3}}}") is not None
    assert _redirects(config_folder, f"storage: {{{S3}, redirect: {{disable: true}}}}") is None


def test_cloudfront_gets_a_canned_policy_for_the_key_of_the_object(
    key: RSAPrivateKey, key_file: Path
) -> None:
    """A CloudFront URL contains the object's key and a signature of the URL and expiry time."""
    sign = cloudfront_signer("https://d1.test", key_file, "APKA1", "/images/", lambda: 1000.5)

    url = sign(PATH, 60)

    query = parse_qs(urlsplit(url).query)
    assert url.partition("?")[0] == f"https://d1.test/images/{PATH}"
    assert (query["Expires"], query["Key-Pair-Id"]) == (["1060"], ["APKA1"])
    signature = query["Signature"][0].translate(str.maketrans("-_~", "+=/"))
    policy = (
        f'{{"Statement":[{{"Resource":"https://d1.test/images/{PATH}",'
        '"Condition":{"DateLessThan":{"AWS:EpochTime":1060}}}]}'
    )
    key.public_key().verify(
        base64.b64decode(signature), policy.encode(), padding.PKCS1v15(), hashes.SHA1()
    )


def test_cloudfront_is_used_as_configured(config_folder: ConfigFolder, key_file: Path) -> None:
    """A CloudFront URL is valid for the time in `duration`.

    If the base URL has no scheme, the CloudFront URL begins with https.
    """
    options = f"baseurl: d1.test, privatekey: {key_file}, keypairid: APKA1, duration: 3000s"
    entry = f"{{name: cloudfront, options: {{{options}}}}}"
    made = _redirects(config_folder, f"storage: {{{S3}}}\nmiddleware: {{storage: [{entry}]}}")

    assert made is not None
    assert made._expiry == 3000.0
    assert made._sign("a", 60).startswith("https://d1.test/images/a?Expires=")
