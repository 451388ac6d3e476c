"""Test the mirror sets and other objects that `entrepot clients` generates for OpenShift."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from entrepot.appliance.clients import openshift
from entrepot.appliance.clients.endpoint import Endpoint
from tests.appliance.clients.endpoints import CA, PLAIN, TLS, texts

# config.openshift.io/v1 requires this pattern of a mirror, and of a source without a wildcard
_PART = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_PLACE = re.compile(
    rf"{_PART}(?:\.{_PART})*(?::[0-9]+)?(?:/[a-z0-9]+(?:(?:[._]|__|-*)[a-z0-9]+)*)*"
)


def document(endpoint: Endpoint, name: str) -> Any:
    """Return the generated file *name*.yaml, parsed."""
    return yaml.safe_load(texts(openshift.configure(endpoint))[f"{name}.yaml"])


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [
        ("imagedigestmirrorset", "ImageDigestMirrorSet", "imageDigestMirrors"),
        ("imagetagmirrorset", "ImageTagMirrorSet", "imageTagMirrors"),
    ],
)
def test_digests_and_tags_have_separate_sets(name: str, kind: str, key: str) -> None:
    """Mirror sets for digests and tags are separate since OpenShift 4.13."""
    read = document(TLS, name)

    assert (read["apiVersion"], read["kind"]) == ("config.openshift.io/v1", kind)
    assert read["spec"][key] == [
        {
            "source": "docker.io",
            "mirrors": ["cache.test:8443/docker.io"],
            "mirrorSourcePolicy": "AllowContactingSource",
        },
        {
            "source": "reg.test:8443",
            "mirrors": ["cache.test:8443/reg.test_8443"],
            "mirrorSourcePolicy": "AllowContactingSource",
        },
    ]


def test_older_releases_have_a_policy() -> None:
    """Older OpenShift releases get a policy for digests only, without mirrorSourcePolicy."""
    read = document(PLAIN, "imagecontentsourcepolicy")

    assert read["apiVersion"] == "operator.openshift.io/v1alpha1"
    assert read["spec"]["repositoryDigestMirrors"][1] == {
        "source": "quay.io",
        "mirrors": ["cache.test:5000/quay.io"],
    }


def test_sources_and_mirrors_match_the_pattern_of_the_api() -> None:
    """Each name in a mirror set matches the pattern of OpenShift's API.

    An upstream's port becomes a part of the path in the mirror's name.
    """
    sets = document(TLS, "imagedigestmirrorset")["spec"]["imageDigestMirrors"]

    for each in sets:
        assert _PLACE.fullmatch(each["source"])
        assert all(_PLACE.fullmatch(mirror) for mirror in each["mirrors"])


def test_the_ca_is_in_a_config_map_under_a_key_with_two_dots_for_the_colon() -> None:
    """In the ConfigMap's key for the CA, two dots replace the colon, which a key cannot contain."""
    read = document(TLS, "additionaltrustedca")

    assert read["metadata"] == {"name": "entrepot-ca", "namespace": "openshift-config"}
    assert read["data"] == {"cache.test..8443": CA}


def test_without_tls_the_steps_add_an_insecure_registry() -> None:
    """Without TLS the steps add an insecure registry, and there is no ConfigMap with a CA."""
    steps = " ".join(openshift.configure(PLAIN).steps)

    assert '"insecureRegistries":["cache.test:5000"]' in steps
    assert "additionaltrustedca.yaml" not in texts(openshift.configure(PLAIN))


def test_the_steps_name_the_clusters_pull_secret_for_the_login() -> None:
    """The steps add the login to the cluster's pull secret.

    They also name upstreams that are patterns, which cannot be the source of a mirror.
    """
    steps = " ".join(openshift.configure(replace(TLS, needs_login=True)).steps)

    assert "secret/pull-secret" in steps
    assert "*.x" in steps
