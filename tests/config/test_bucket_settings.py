"""Test the settings of `storage.azure` and `storage.oss`: missing keys and contradictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.config_folder import ConfigFolder

_AZURE = "accountname: images, accountkey: c2VzYW1l, container: registry"
_OSS = "accesskeyid: LTAI, accesskeysecret: sesame, region: oss-cn-hangzhou, bucket: images"
_AT = "config.yml:1: storage.azure"
_LOGIN = f"{_AT}.credentials"
_COPY = "copy one of the two keys of the storage account completely"


def test_the_driver_gets_the_keys_and_the_state_directory(config_folder: ConfigFolder) -> None:
    """The driver gets the login as a map; messages show the account, container and prefix."""
    config_folder.write(f"storage: {{azure: {{{_AZURE}, rootdirectory: /a/}}}}")
    storage = config_folder.settings(ENTREPOT_STATEDIR="/state").storage

    assert (storage.driver, storage.place) == ("azure", "azure://images/registry/a")
    assert storage.rootdirectory == storage.parameters["statedir"] == Path("/state")
    assert storage.parameters["credentials"] == {
        "type": "shared_key",
        "clientid": None,
        "tenantid": None,
        "secret": None,
    }


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            "accountkey: YQ==, container: c",
            f"{_AT}: storage.azure.accountname is missing; set storage.azure.accountname",
        ),
        (
            "accountname: a, accountkey: YQ==",
            f"{_AT}: storage.azure.container is missing; set storage.azure.container",
        ),
        (
            "accountname: a, container: c",
            f"{_AT}: storage.azure.accountkey is missing; set storage.azure.accountkey",
        ),
        (
            f"{_AZURE}, credentials: {{type: client_secret, clientid: a, secret: b}}",
            (
                f"{_AT}: storage.azure.credentials.tenantid is missing;"
                " set storage.azure.credentials.tenantid"
            ),
        ),
        (
            f"{_AZURE}, credentials: {{type: default}}",
            (
                f"{_LOGIN}.type=default: not one of shared_key, client_secret, default_credentials;"
                " try default_credentials"
            ),
        ),
        (
            "accountname: a, accountkey: sesame!, container: c",
            f"{_AT}.accountkey: not base64; {_COPY}",
        ),
        (
            f"{_AZURE}, realm: 'https://core.windows.net'",
            (
                f"{_AT}.realm=https://core.windows.net: not the domain of a cloud;"
                " try core.windows.net"
            ),
        ),
        (
            f"{_AZURE}, serviceurl: blobs.test",
            (
                f"{_AT}.serviceurl=blobs.test: not the URL of a service;"
                " try https://images.blob.core.windows.net"
            ),
        ),
        (
            f"{_AZURE}, serviceurl: 'https://b.test', realm: core.windows.net",
            (
                f"{_AT}.realm: the key selects a host, but storage.azure.serviceurl names another;"
                " take one of the two keys out"
            ),
        ),
        (
            f"{_AZURE}, contaner: c",
            f"{_AT}.contaner: no such key; did you mean storage.azure.container?",
        ),
        (
            f"{_AZURE}, trimlegacyrootprefix: false",
            (
                f"{_AT}.trimlegacyrootprefix: refused: names that begin with a slash, as GitLab's"
                " registry writes them, are not supported; copy the blobs to names without that"
                " slash (docs/storage.md, azure)"
            ),
        ),
    ],
)
def test_each_mistake_is_one_line_with_a_remedy(
    config_folder: ConfigFolder, keys: str, expected: str
) -> None:
    """Each mistake in `storage.azure` causes one line with a remedy, without an account's key."""
    config_folder.write(f"storage: {{azure: {{{keys}}}}}")

    assert config_folder.problems() == [expected]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (_AZURE, []),
        (
            f"{_AZURE}, credentials: {{type: default_credentials}}",
            [
                (
                    f"{_AT}.accountkey: the key has no effect: storage.azure.credentials.type is"
                    " default_credentials; set the type to shared_key, or take this key out"
                )
            ],
        ),
        (
            f"{_AZURE}, credentials: {{clientid: a}}",
            [
                (
                    f"{_LOGIN}.clientid: the key has no effect: storage.azure.credentials.type is"
                    " shared_key; set the type to client_secret, or take this key out"
                )
            ],
        ),
        (f"{_AZURE}, trimlegacyrootprefix: true, legacyrootprefix: false", []),
    ],
    ids=["key", "environment", "application", "names without a slash"],
)
def test_a_key_of_another_login_is_a_warning(
    config_folder: ConfigFolder, keys: str, expected: list[str]
) -> None:
    """A key of `storage.azure` that the configured type of login does not use causes a warning.

    Docker distribution documents `accountkey` as required, and ignores it with other logins.
    """
    config_folder.write(f"storage: {{azure: {{{keys}}}}}")

    assert config_folder.problems() == []
    assert [each for each in config_folder.warnings() if "storage" in each] == expected


@pytest.mark.parametrize(
    ("storage", "expected"),
    [
        (f"azure: {{{_AZURE}}}", True),
        (f"azure: {{{_AZURE}}}, redirect: {{disable: true}}", False),
        (f"azure: {{{_AZURE}, credentials: {{type: default_credentials}}}}", False),
        (f"oss: {{{_OSS}}}", False),
    ],
)
def test_only_the_key_of_an_account_signs_redirects(
    config_folder: ConfigFolder, storage: str, *, expected: bool
) -> None:
    """By default clients are redirected to Azure only with an account's key, and never to OSS.

    Without an account's key the appliance would need a request to Azure to sign a URL. Redirects to
    OSS were never tested.
    """
    config_folder.write(f"storage: {{{storage}}}")

    assert config_folder.settings().storage.has_redirects is expected


_OSS_AT = "config.yml:1: storage.oss"


@pytest.mark.parametrize("name", ["accesskeyid", "accesskeysecret", "region", "bucket"])
def test_a_missing_key_of_oss_is_one_line(config_folder: ConfigFolder, name: str) -> None:
    """Each of the four keys of `storage.oss` is required, as in docker distribution."""
    keys = ", ".join(each for each in _OSS.split(", ") if not each.startswith(f"{name}:"))
    config_folder.write(f"storage: {{oss: {{{keys}}}}}")

    (problem,) = config_folder.problems()

    assert problem == f"{_OSS_AT}: storage.oss.{name} is missing; set storage.oss.{name}"


def test_oss_is_marked_as_not_tested(config_folder: ConfigFolder) -> None:
    """For `storage.oss` a warning states that the driver was not tested with the service."""
    config_folder.write(f"storage: {{oss: {{{_OSS}}}}}")

    assert config_folder.problems() == []
    (warning,) = [each for each in config_folder.warnings() if "storage" in each]
    assert "was not tested with the service" in warning


@pytest.mark.parametrize(("driver", "system"), [("swift", "Swift"), ("rados", "Ceph")])
def test_a_refused_driver_names_the_gateway_of_its_system(
    config_folder: ConfigFolder, driver: str, system: str
) -> None:
    """The message about an unsupported driver names a gateway that can be used instead."""
    config_folder.write(f"storage: {{{driver}: {{container: c}}}}")

    (problem,) = config_folder.problems()

    remedy = (
        f"use storage.s3 with the S3 gateway of {system}: set regionendpoint and forcepathstyle"
    )
    assert problem.endswith(f"refused: the driver is not implemented; {remedy}")
