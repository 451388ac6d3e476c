"""Configure OpenShift with mirror sets, from which it generates registries.conf on every node.

An ImageDigestMirrorSet applies to pulls by digest, such as those of OpenShift's own images. An
ImageTagMirrorSet applies to pulls by tag. OpenShift releases older than 4.13 have an
ImageContentSourcePolicy instead, which applies to pulls by digest only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from entrepot.appliance.clients.documents import yaml_text
from entrepot.appliance.clients.endpoint import Client, Endpoint, File

_CONFIG = "config.openshift.io/v1"
_NAME = "entrepot"
_AUTHORITY = "entrepot-ca"
_IMAGE = "oc patch image.config.openshift.io/cluster --type merge -p"


def configure(endpoint: Endpoint) -> Client:
    """Return the mirror sets for newer and older releases, and the ConfigMap with the CA."""
    named = [
        ("imagedigestmirrorset", _mirror_set(endpoint, "Digest")),
        ("imagetagmirrorset", _mirror_set(endpoint, "Tag")),
        ("imagecontentsourcepolicy", _source_policy(endpoint)),
    ]
    if endpoint.ca:
        named.append(("additionaltrustedca", _authority(endpoint, endpoint.ca)))
    files = (File(f"{name}.yaml", yaml_text(each)) for name, each in named)
    return Client("OpenShift", tuple(files), tuple(_steps(endpoint)))


def _mirror_set(endpoint: Endpoint, by: str) -> dict[str, Any]:
    mirrors = [
        {**_pair(endpoint, each), "mirrorSourcePolicy": "AllowContactingSource"}
        for each in endpoint.elsewhere
    ]
    return _object(_CONFIG, f"Image{by}MirrorSet", {f"image{by}Mirrors": mirrors})


def _source_policy(endpoint: Endpoint) -> dict[str, Any]:
    mirrors = [_pair(endpoint, each) for each in endpoint.elsewhere]
    kind = "ImageContentSourcePolicy"
    return _object("operator.openshift.io/v1alpha1", kind, {"repositoryDigestMirrors": mirrors})


def _pair(endpoint: Endpoint, upstream: str) -> dict[str, Any]:
    return {"source": upstream, "mirrors": [endpoint.prefix(upstream)]}


def _object(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": _NAME}, "spec": spec}


def _authority(endpoint: Endpoint, ca: str) -> dict[str, Any]:
    # A key of a ConfigMap cannot contain a colon, so OpenShift expects host..port.
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _AUTHORITY, "namespace": "openshift-config"},
        "data": {endpoint.netloc.replace(":", ".."): ca},
    }


def _steps(endpoint: Endpoint) -> Iterator[str]:
    if endpoint.ca:
        yield "Add the CA first, because nodes skip a mirror that they do not trust:"
        yield "  oc apply -f additionaltrustedca.yaml"
        yield f"""  {_IMAGE} '{{"spec":{{"additionalTrustedCA":{{"name":"{_AUTHORITY}"}}}}}}'"""
        yield "  (if additionalTrustedCA already names a ConfigMap, add the key in"
        yield "  additionaltrustedca.yaml to that ConfigMap instead)"
    if not endpoint.tls:
        yield "Without TLS, every node needs this setting, which replaces the existing list:"
        insecure = (
            f'{{"spec":{{"registrySources":{{"insecureRegistries":["{endpoint.netloc}"]}}}}}}'
        )
        yield f"  {_IMAGE} '{insecure}'"
    yield "4.13 and later: oc apply -f imagedigestmirrorset.yaml -f imagetagmirrorset.yaml"
    yield "Before 4.13: oc apply -f imagecontentsourcepolicy.yaml; do not apply both kinds."
    yield "The Machine Config Operator updates one node at a time: oc get machineconfigpool -w"
    if endpoint.needs_login:
        yield f"Nodes log in with the cluster's pull secret: add an entry for {endpoint.netloc} to"
        yield "secret/pull-secret of the namespace openshift-config."
    if endpoint.globs:
        globs = ", ".join(endpoint.globs)
        yield f"{globs}: a mirror cannot be configured for a pattern; add each host."
