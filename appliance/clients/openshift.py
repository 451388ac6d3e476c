"""OpenShift: mirror sets, of which its operator makes every node's registries.conf.

An ImageDigestMirrorSet is for pulls by digest, which is what its own images are; an
ImageTagMirrorSet for pulls by tag. An ImageContentSourcePolicy is what releases before 4.13 have
instead, for digests only.
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


def configure(front: Endpoint) -> Client:
    """Write the mirror sets of newer and of older releases, and the map with the authority."""
    named = [
        ("imagedigestmirrorset", _mirror_set(front, "Digest")),
        ("imagetagmirrorset", _mirror_set(front, "Tag")),
        ("imagecontentsourcepolicy", _source_policy(front)),
    ]
    if front.ca:
        named.append(("additionaltrustedca", _authority(front, front.ca)))
    files = (File(f"{name}.yaml", yaml_text(each)) for name, each in named)
    return Client("OpenShift", tuple(files), tuple(_steps(front)))


def _mirror_set(front: Endpoint, by: str) -> dict[str, Any]:
    mirrors = [
        {**_pair(front, each), "mirrorSourcePolicy": "AllowContactingSource"}
        for each in front.elsewhere
    ]
    return _object(_CONFIG, f"Image{by}MirrorSet", {f"image{by}Mirrors": mirrors})


def _source_policy(front: Endpoint) -> dict[str, Any]:
    mirrors = [_pair(front, each) for each in front.elsewhere]
    kind = "ImageContentSourcePolicy"
    return _object("operator.openshift.io/v1alpha1", kind, {"repositoryDigestMirrors": mirrors})


def _pair(front: Endpoint, upstream: str) -> dict[str, Any]:
    return {"source": upstream, "mirrors": [front.prefix(upstream)]}


def _object(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": _NAME}, "spec": spec}


def _authority(front: Endpoint, ca: str) -> dict[str, Any]:
    # a key has no colon: host..port
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": _AUTHORITY, "namespace": "openshift-config"},
        "data": {front.netloc.replace(":", ".."): ca},
    }


def _steps(front: Endpoint) -> Iterator[str]:
    if front.ca:
        yield "The authority first, for nodes that do not trust us only pass us over:"
        yield "  oc apply -f additionaltrustedca.yaml"
        yield f"""  {_IMAGE} '{{"spec":{{"additionalTrustedCA":{{"name":"{_AUTHORITY}"}}}}}}'"""
        yield "  (a map that is named there already gets our key instead)"
    if not front.tls:
        yield "Without TLS every node must be told; the list replaces the one that is there:"
        insecure = f'{{"spec":{{"registrySources":{{"insecureRegistries":["{front.netloc}"]}}}}}}'
        yield f"  {_IMAGE} '{insecure}'"
    yield "4.13 and later: oc apply -f imagedigestmirrorset.yaml -f imagetagmirrorset.yaml"
    yield "Before 4.13: oc apply -f imagecontentsourcepolicy.yaml, and not both kinds together."
    yield "The Machine Config Operator rolls it out node by node: oc get machineconfigpool -w"
    if front.asks:
        yield f"Nodes log in with the cluster's pull secret: add an entry for {front.netloc} to"
        yield "secret/pull-secret of the namespace openshift-config."
    if front.globs:
        yield f"{', '.join(front.globs)}: a mirror can't keep what a * stood for; add each host."
