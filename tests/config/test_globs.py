"""Test the patterns for hosts in a pull secret, which the kubelet defines."""

from __future__ import annotations

import base64
import json

import pytest

from entrepot.config.credential import SecretCredential
from entrepot.config.pull_secret import ParsedPullSecret, parse


def _auth(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _secret(auths: dict[str, object]) -> ParsedPullSecret:
    return parse(json.dumps({"auths": auths}).encode())


@pytest.mark.parametrize(
    ("glob", "host", "expected"),
    [
        ("*.azurecr.io", "corp.azurecr.io", True),
        ("*.azurecr.io", "azurecr.io", False),
        ("*.azurecr.io", "a.b.azurecr.io", False),
        ("*.*.azurecr.io", "a.b.azurecr.io", True),
        ("*.azurecr.io", "corp.azurecr.io:443", False),
        ("*.azurecr.io:5000", "corp.azurecr.io:5000", True),
        ("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-west-1.amazonaws.com", True),
        ("reg-?.example", "reg-1.example", True),
        ("reg-?.example", "reg-10.example", False),
        ("reg[0-9].example", "reg7.example", True),
        ("reg[^0-9].example", "reg7.example", False),
        ("https://*.azurecr.io/v2/", "corp.azurecr.io", True),
        ("*.Azurecr.io", "Corp.azurecr.IO", True),
        ("*", "quay.io", False),
        ("*.io", "quay.io", True),
    ],
)
def test_a_glob_is_read_as_the_kubelet_reads_it(glob: str, host: str, *, expected: bool) -> None:
    """A glob of the pull secret is read as the kubelet reads it.

    A host is compared with the glob label by label, and the ports must be equal.
    """
    assert expected is _secret({glob: {"auth": _auth("a:b")}}).names(host)


def test_a_glob_may_have_a_path() -> None:
    """A glob of a pull secret may have a path, which selects the credential, not the upstream."""
    secret = _secret({"*.azurecr.io/team": {"auth": _auth("a:b")}})

    assert SecretCredential("a", "b") == secret.lookup("corp.azurecr.io", "team/app")
    assert secret.lookup("corp.azurecr.io", "other/app") is None
    assert secret.names("corp.azurecr.io")
