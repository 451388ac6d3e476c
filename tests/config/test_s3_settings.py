"""Test the settings of `storage.s3`: defaults, missing keys and contradictions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.config_folder import ConfigFolder

_GIVEN = "region: eu-central-1, bucket: images"


def test_the_state_directory_is_the_only_folder(config_folder: ConfigFolder) -> None:
    """With a bucket, index, logs and unfinished downloads are local, in the state directory."""
    config_folder.write(f"storage: {{s3: {{{_GIVEN}, rootdirectory: /a/}}}}")
    storage = config_folder.settings(ENTREPOT_STATEDIR="/state").storage

    assert (storage.driver, storage.place) == ("s3", "s3://images/a")
    assert storage.rootdirectory == storage.statedir == Path("/state")
    assert storage.parameters["statedir"] == Path("/state")
    assert storage.parameters["chunksize"] == 10 * 2**20
    assert config_folder.settings().storage.statedir == Path("data/entrepot").absolute()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [("", False), (", regionendpoint: 'http://m:9000'", True)],
)
def test_the_style_of_urls_follows_the_endpoint(
    config_folder: ConfigFolder, keys: str, *, expected: bool
) -> None:
    """With `regionendpoint` the bucket is in the path of a URL, not in the host.

    Services other than AWS rarely have a host for each bucket.
    """
    config_folder.write(f"storage: {{s3: {{{_GIVEN}{keys}}}}}")
    s3 = config_folder.settings().storage.s3

    assert s3 is not None
    assert s3.forcepathstyle is expected


_AT = "config.yml:1: storage.s3"
_TWO_HOSTS = (
    f"{_AT}.accelerate: storage.s3.usefipsendpoint is set, but AWS has no FIPS endpoint for"
    " acceleration; take one of the two keys out"
)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("bucket: b", f"{_AT}: storage.s3.region is missing; set storage.s3.region"),
        ("region: r", f"{_AT}: storage.s3.bucket is missing; set storage.s3.bucket"),
        (
            f"{_GIVEN}, accesskey: a",
            f"{_AT}: storage.s3.secretkey is missing; set both keys, or neither",
        ),
        (
            f"{_GIVEN}, sessiontoken: t",
            f"{_AT}: storage.s3.sessiontoken is set without accesskey; set accesskey and secretkey",
        ),
        (
            f"{_GIVEN}, keyid: k",
            f"{_AT}.keyid: objects are not encrypted; set storage.s3.encrypt: true",
        ),
        (f"{_GIVEN}, accelerate: true, usefipsendpoint: true", _TWO_HOSTS),
        (f"{_GIVEN}, chunksize: 1M", f"{_AT}.chunksize=1M: not from 5M to 512M; try 10M"),
        (f"{_GIVEN}, buket: c", f"{_AT}.buket: no such key; did you mean storage.s3.bucket?"),
    ],
)
def test_each_mistake_is_one_line_with_a_remedy(
    config_folder: ConfigFolder, keys: str, expected: str
) -> None:
    """Each mistake in `storage.s3` causes one line with a remedy, without a key or a token."""
    config_folder.write(f"storage: {{s3: {{{keys}}}}}")

    assert config_folder.problems() == [expected]


@pytest.mark.parametrize("name", ["accelerate", "usedualstack", "usefipsendpoint"])
def test_hosts_of_aws_contradict_another_endpoint(config_folder: ConfigFolder, name: str) -> None:
    """A key that selects a host of AWS is a problem if `regionendpoint` names another host."""
    config_folder.write(f"storage: {{s3: {{{_GIVEN}, regionendpoint: 'http://m', {name}: true}}}}")

    (problem,) = config_folder.problems()

    assert problem.startswith(f"{_AT}.{name}: the key selects a host of AWS")


def test_the_spool_is_limited_only_with_a_bucket(config_folder: ConfigFolder) -> None:
    """The setting `storage.spoolsize` is a problem without a bucket.

    On a disk, CLEANER_MAXSIZE also limits unfinished downloads and uploads.
    """
    (line,) = config_folder.problems(ENTREPOT_SPOOLSIZE="1G")
    assert "CLEANER_MAXSIZE limits unfinished downloads and uploads too" in line

    config_folder.write("storage: {s3: {region: eu, bucket: images}}")
    assert config_folder.settings(ENTREPOT_SPOOLSIZE="1G").storage.spoolsize == 1024**3
    assert config_folder.settings().storage.spoolsize is None
