"""Test `storage.shared`, with which docker distribution may write to the same bucket."""

from __future__ import annotations

from entrepot.cleaner.__main__ import bounds, rules
from entrepot.cleaner.hosted.retention import RetentionRule
from entrepot.cleaner.policy import StoreLimits
from entrepot.datastore.refs import Repository
from tests.config.config_folder import ConfigFolder

_S3 = "s3: {region: r, bucket: b}, shared: true"


def test_a_shared_bucket_has_no_limits(config_folder: ConfigFolder) -> None:
    """With `storage.shared` the appliance evicts nothing, and has no default size limit.

    If the usual default limit applied, nothing more would be stored after the bucket has reached
    this limit.
    """
    config_folder.write(f"storage: {{{_S3}}}\nhosted: {{'team/**': {{ttl: 1d}}}}")
    settings = config_folder.settings()

    assert settings.cleaner.maxsize == 0
    assert bounds(settings) == StoreLimits()
    assert rules(settings).of(Repository("team/app")) == RetentionRule()
    assert config_folder.settings(CLEANER_MAXSIZE="5G").cleaner.maxsize == 5 * 2**30


def test_keys_of_evictions_are_without_effect(config_folder: ConfigFolder) -> None:
    """With `storage.shared` a key about evictions has no effect, and causes a warning."""
    config_folder.write(f"storage: {{{_S3}}}\ncleaner: {{ttl: 1d, garbage: 1h, maxsize: 5G}}")

    assert config_folder.warnings() == [
        (
            f"config.yml:2: cleaner.{name}: the key has no effect: storage.shared is true; take one"
            " of the two keys out"
        )
        for name in ("ttl", "garbage")
    ]


def test_only_a_bucket_can_be_shared(config_folder: ConfigFolder) -> None:
    """`storage.shared` is refused without a bucket, because only a bucket can be shared."""
    config_folder.write("storage: {shared: true}")

    assert config_folder.problems() == [
        (
            "config.yml:1: storage.shared=true: only a bucket can be shared; take it out, or"
            " configure a bucket"
        )
    ]
