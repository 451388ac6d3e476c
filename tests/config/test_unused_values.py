"""Test the warnings about values in sections without effect."""

from __future__ import annotations

import pytest

from tests.config.config_folder import ConfigFolder

_OF_2 = """
redis:
  addr: redis:6379
  password: hunter2
  db: 0
  dialtimeout: 10ms
  readtimeout: 1m30s
  writetimeout: 10000000
  pool: {maxidle: 16, maxactive: 64, idletimeout: 300s}
"""
_OF_3 = """
redis:
  addrs: [redis-1:6379, redis-2:6379]
  mastername: main
  sentinelpassword: hunter2
  maxidleconns: 16
  poolsize: 64
  connmaxidletime: 300s
  tls: {certificate: /c.pem, key: /k.pem, rootcas: [/ca.pem]}
"""


@pytest.mark.parametrize("text", [_OF_2, _OF_3], ids=["2.x", "3.x"])
def test_redis_is_one_warning_in_either_form(config_folder: ConfigFolder, text: str) -> None:
    """`redis:`, in the form of 2.x or 3.x, causes one warning that the section has no effect."""
    config_folder.write(text)

    assert config_folder.problems() == []
    assert config_folder.warnings() == [
        (
            "config.yml:3: redis: without effect: the appliance looks blobs up on the disk,"
            " without redis; take it out"
        )
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis: {adr: 'a:1'}", "config.yml:1: redis.adr: no such key; did you mean redis.addr?"),
        ("redis: {db: one}", "config.yml:1: redis.db: not a whole number from 0 to 999999999;"),
        ("redis: {dialtimeout: soon}", "config.yml:1: redis.dialtimeout: not a duration; try 10ms"),
        ("redis: {pool: {maxidel: 1}}", "did you mean redis.pool.maxidle?"),
        ("redis: {tls: {rootcas: {a: b}}}", "config.yml:1: redis.tls.rootcas.a: no such key;"),
        ("reporting: {bugsnag: {apikye: a}}", "did you mean reporting.bugsnag.apikey?"),
    ],
    ids=range(6),
)
def test_a_wrong_name_or_value_is_a_warning(
    config_folder: ConfigFolder, text: str, expected: str
) -> None:
    """A wrong name or value in a section without effect causes a warning.

    Docker distribution ignores a wrong name, and does not start with a wrong value.
    """
    config_folder.write(text)

    assert config_folder.problems() == []
    assert any(expected in each for each in config_folder.warnings())


def test_a_wrong_value_of_a_variable_is_a_warning(config_folder: ConfigFolder) -> None:
    """The warning about a wrong value names the variable, but no value, which may be a secret."""
    found = config_folder.warnings(REGISTRY_REDIS_DB="one", REGISTRY_REDIS_PASSWORD="hunter2")

    assert "REGISTRY_REDIS_DB: not a whole number from 0 to 999999999; try 10" in found
    assert "hunter2" not in str(found)


def test_disabled_middleware_is_no_problem(config_folder: ConfigFolder) -> None:
    """Middleware with `disabled: true` is no problem, as in docker distribution."""
    config_folder.write("middleware: {storage: [{name: cloudfront, disabled: true}]}")

    assert config_folder.problems() == []
