"""Test the settings of `storage.redirect`: values, warnings, and keys without effect."""

from __future__ import annotations

import pytest

from tests.config.config_folder import ConfigFolder

_S3 = "region: r, bucket: b, accesskey: a, secretkey: s"
_AT = "config.yml:1: storage"
_REMEDY = "set storage.redirect.endpoint to a URL that clients can use, or storage.redirect.disable"
_LOCAL = "a redirect leads clients to a name of the local network"
_OWN = (
    "the service refuses redirected requests: its host is http.host or a subdomain, so clients send"
    " their password there too"
)


def _warnings(folder: ConfigFolder, s3: str, redirect: str, *argv: str) -> list[str]:
    folder.write(f"storage: {{s3: {{{_S3}{s3}}}, redirect: {{{redirect}}}}}")
    return [each for each in folder.warnings(*argv) if "storage." in each]


def test_the_driver_with_a_bucket_redirects_unless_it_is_disabled(
    config_folder: ConfigFolder,
) -> None:
    """Clients are redirected to a bucket, unless `disable` is set.

    The URL of a redirect is valid for ten minutes.
    """
    config_folder.write(f"storage: {{s3: {{{_S3}}}}}")
    storage = config_folder.settings().storage

    assert (storage.has_redirects, storage.redirect.expiry) == (True, 600.0)
    disabled = config_folder.settings(REGISTRY_STORAGE_REDIRECT_DISABLE="true").storage
    assert not disabled.has_redirects
    assert not config_folder.settings(REGISTRY_STORAGE="filesystem").storage.has_redirects


@pytest.mark.parametrize(
    ("s3", "redirect", "argv", "expected"),
    [
        ("", "endpoint: 'https://s3.example'", (), []),
        (", regionendpoint: 'https://minio.example:9000'", "", (), []),
        (", regionendpoint: 'minio:9000'", "", (), [f"s3.regionendpoint=minio:9000: {_LOCAL}"]),
        (", regionendpoint: 'http://minio:9000'", "endpoint: 'https://s3.example'", (), []),
        (", regionendpoint: 'http://minio:9000'", "disable: true", (), []),
        (
            "",
            "endpoint: 'https://s3.storage.svc'",
            (),
            [f"redirect.endpoint=https://s3.storage.svc: {_LOCAL}"],
        ),
        (
            "",
            "endpoint: 'http://127.0.0.1:9000'",
            (),
            [f"redirect.endpoint=http://127.0.0.1:9000: {_LOCAL}"],
        ),
        (
            "",
            "endpoint: 'http://s3.example'",
            ("--http.host=https://registry.test",),
            [
                "redirect.endpoint=http://s3.example: a redirect leads from TLS to plain HTTP",
            ],
        ),
        (
            "",
            "endpoint: 'https://s3.registry.test'",
            ("--http.host=https://registry.test",),
            [f"redirect.endpoint=https://s3.registry.test: {_OWN}"],
        ),
        ("", "endpoint: 'https://s3-registry.test'", ("--http.host=https://registry.test",), []),
    ],
)
def test_an_endpoint_that_clients_cannot_use_is_a_warning(
    config_folder: ConfigFolder, s3: str, redirect: str, argv: tuple[str, ...], expected: list[str]
) -> None:
    """An endpoint to which clients cannot be redirected causes a warning.

    Its host may be known only in the appliance's network, or may lack TLS. If the host is that of
    the registry or a subdomain of it, clients send their password to the endpoint.
    """
    expected = [f"{_AT}.{each}; {_REMEDY}" for each in expected]

    assert _warnings(config_folder, s3, redirect, *argv) == expected


def test_a_key_without_effect_is_a_warning(config_folder: ConfigFolder) -> None:
    """A key of redirects causes a warning if there is no bucket, or if redirects are disabled."""
    config_folder.write("storage: {redirect: {expiry: 1m}}")
    assert config_folder.warnings() == [
        (
            f"{_AT}.redirect.expiry=1m: the key has no effect: clients are redirected only to a"
            " bucket; take it out"
        )
    ]
    disabled = _warnings(config_folder, "", "disable: true, expiry: 1m")
    assert disabled == [
        (
            f"{_AT}.redirect.expiry=1m: the key has no effect: storage.redirect.disable is true;"
            " take it out"
        )
    ]


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("expiry: 21m", "redirect.expiry=21m: not from 10s to 20m; try 10m"),
        ("expiry: 1s", "redirect.expiry=1s: not from 10s to 20m; try 10m"),
        (
            "endpoint: 's3.example'",
            "redirect.endpoint=s3.example: not the URL of a storage service; try https://s3.example",
        ),
        (
            "endpoint: 'https://s3.example/a'",
            (
                "redirect.endpoint=https://s3.example/a: a URL with a path or a query;"
                " try https://s3.example"
            ),
        ),
    ],
)
def test_each_wrong_value_is_one_line(
    config_folder: ConfigFolder, redirect: str, expected: str
) -> None:
    """A wrong value of `storage.redirect`, such as an expiry over 20 minutes, causes one line."""
    config_folder.write(f"storage: {{s3: {{{_S3}}}, redirect: {{{redirect}}}}}")

    assert config_folder.problems() == [f"{_AT}.{expected}"]
