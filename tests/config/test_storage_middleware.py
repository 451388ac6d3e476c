"""Test the settings of `middleware.storage:`."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from entrepot import config
from entrepot.config.files import moved, named_files
from entrepot.config.storage_middleware import CloudFrontTarget
from tests.config.config_folder import ConfigFolder

_S3 = "storage: {s3: {region: r, bucket: b}}\n"
_KEY = "privatekey: /given/key.pem"
_CLOUDFRONT = f"name: cloudfront, options: {{baseurl: 'https://c.test', {_KEY}, keypairid: K"
_URL = "baseurl is not an http or https URL without a query; try {baseurl: https://cdn.example}"


def _write(folder: ConfigFolder, entry: str) -> None:
    folder.write(f"{_S3}middleware: {{storage: [{{{entry}}}]}}")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("name: alicdn", "no storage middleware alicdn; try redirect or cloudfront"),
        ("name: redirect", "redirect needs the option baseurl; set options.baseurl"),
        ("name: redirect, options: {baseurl: cdn.test}", _URL),
        ("name: redirect, options: {baseurl: 'https://cdn.test?a'}", _URL),
        (
            "name: redirect, options: {baseurl: 'https://cdn.test', host: b}",
            "redirect has no option host; known: baseurl",
        ),
        (
            "name: cloudfront, options: {baseurl: c.test, keypairid: K}",
            "cloudfront needs the option privatekey; set options.privatekey",
        ),
        (
            f"{_CLOUDFRONT}, ipfilteredby: aws}}",
            (
                "ipfilteredby needs Amazon's list of addresses, which the appliance does not load;"
                " take it out: all clients use CloudFront"
            ),
        ),
        (
            f"{_CLOUDFRONT}, duration: 48h}}",
            "the duration of cloudfront is not from 10s to 24h; try 20m",
        ),
    ],
)
def test_a_wrong_entry_is_one_line_with_a_remedy(
    config_folder: ConfigFolder, entry: str, expected: str
) -> None:
    """A wrong entry of `middleware.storage` causes one line with a remedy, without any value."""
    _write(config_folder, entry)

    (problem,) = config_folder.problems()
    assert problem.startswith("config.yml:2: middleware.storage=")
    assert problem.endswith(f": {expected}")


def test_cloudfront_needs_a_bucket(config_folder: ConfigFolder) -> None:
    """`cloudfront` without a bucket is refused; docker distribution only logs the mistake."""
    config_folder.write(f"middleware: {{storage: [{{{_CLOUDFRONT}}}}}]}}")

    assert config_folder.problems() == [
        "config.yml:1: middleware.storage: cloudfront needs storage.s3; use the middleware redirect"
    ]


def test_the_key_is_a_file_of_the_settings(config_folder: ConfigFolder) -> None:
    """CloudFront's private key is a file of the settings, so it is copied for the service user."""
    _write(config_folder, f"{_CLOUDFRONT}, ipfilteredby: none, awsregion: us-east-1}}")
    settings = config_folder.settings()

    copied = moved(settings, {Path("/given/key.pem"): Path("/copies/key.pem")})

    assert Path("/given/key.pem") in named_files(settings)
    assert isinstance(copied.middleware.target, CloudFrontTarget)
    assert copied.middleware.target.private_key == Path("/copies/key.pem")
    assert copied.middleware.target.duration == 20 * 60
    assert dict(config.shown_settings(settings))["middleware", "storage"] == "cloudfront"


def test_a_key_that_cannot_sign_is_a_problem(config_folder: ConfigFolder, tmp_path: Path) -> None:
    """A private key other than RSA is a problem: CloudFront could not verify its signature."""
    path = tmp_path / "key.pem"
    entry = _CLOUDFRONT.replace("/given/key.pem", str(path))
    _write(config_folder, f"{entry}}}")
    settings = config_folder.settings()

    def found() -> list[str]:
        return [each.message for each in config.check(settings) if "cloudfront" in each.source]

    assert found() == ["no such file or directory"]
    path.write_text("nothing")
    assert found() == ["no private key in it"]
    elliptic = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        elliptic.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert found() == ["not an RSA key"]


def test_redirects_that_are_disabled_make_middleware_useless(config_folder: ConfigFolder) -> None:
    """`middleware.storage` causes a warning if redirects are disabled.

    An endpoint for redirects causes a warning too, because the middleware replaces this endpoint.
    """
    entry = "name: redirect, options: {baseurl: 'https://cdn.test'}"
    config_folder.write(
        f"storage: {{redirect: {{disable: true}}}}\nmiddleware: {{storage: [{{{entry}}}]}}"
    )
    assert config_folder.warnings() == [
        (
            "config.yml:2: middleware.storage: the key has no effect: storage.redirect.disable is"
            " true; take one of the two keys out"
        )
    ]
    config_folder.write(
        "storage: {redirect: {endpoint: 'https://s3.test'}}\n"
        f"middleware: {{storage: [{{{entry}}}]}}"
    )
    assert config_folder.warnings() == [
        (
            "config.yml:1: storage.redirect.endpoint=https://s3.test: the key has no effect:"
            " middleware.storage makes the URLs; take it out"
        )
    ]
