"""Checks for Kubernetes manifests: the schema, OpenShift's constraints, and references."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import kubernetes_validate

Document = dict[str, Any]

# oldest and newest Kubernetes versions that kubernetes-validate knows (kubeVersion in Chart.yaml)
VERSIONS = ("1.25", "1.37")

_OF_EXTENSIONS = {"Route", "HTTPRoute", "ServiceMonitor"}


def read(file: Path) -> list[Document]:
    """Return the Kubernetes manifests of a YAML file; as in kubectl, a List becomes its items."""
    found = [each for each in yaml.safe_load_all(file.read_text()) if each]
    return [each for outer in found for each in outer.get("items", [outer])]


def objections(document: Document, version: str) -> list[str]:
    """Return the errors that Kubernetes *version* reports, including unknown fields.

    Kinds that extensions of Kubernetes define have no schema here.
    """
    if document["kind"] in _OF_EXTENSIONS:
        return []
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{document['kind']}: {error.message}"]
    return []


def of_kind(documents: Sequence[Document], kind: str) -> Document:
    """Return the manifest of a kind, such as Deployment; there must be one only."""
    (found,) = (each for each in documents if each["kind"] == kind)
    return found


def pod(documents: Sequence[Document]) -> Document:
    """Return the pod template of the Deployment among the manifests."""
    found: Document = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    return found


def container(documents: Sequence[Document]) -> Document:
    """Return the only container of the pod."""
    (found,) = pod(documents)["containers"]
    return dict(found)


def environment(
    documents: Sequence[Document], secrets: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the container's environment variables; *secrets* are the entries of all Secrets.

    Variables whose values are fields of the pod are omitted.
    """
    return {
        each["name"]: each["value"]
        if "value" in each
        else (secrets or {})[each["valueFrom"]["secretKeyRef"]["key"]]
        for each in container(documents)["env"]
        if "fieldRef" not in each.get("valueFrom", {})
    }


def refusals(documents: Sequence[Document]) -> list[str]:
    """Return the fields that OpenShift's security context constraint restricted-v2 refuses."""
    spec, one = pod(documents), container(documents)
    contexts = [spec.get("securityContext", {}), one.get("securityContext", {})]
    fixed = ("runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "seLinuxOptions")
    kinds = {name for each in spec["volumes"] for name in each if name != "name"}
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
    return [
        *(name for context in contexts for name in fixed if name in context),
        *("hostPort" for each in one["ports"] if each.get("hostPort") or each.get("hostIP")),
        *(name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)),
        *sorted(kinds - allowed - {"persistentVolumeClaim"}),
        *(each for each in ("privileged", "allowPrivilegeEscalation") if contexts[1].get(each)),
        *([] if contexts[1]["capabilities"]["drop"] == ["ALL"] else ["capabilities"]),
    ]


def loose_ends(documents: Sequence[Document], given: frozenset[str] = frozenset()) -> list[str]:
    """Return the unresolved references to objects, volumes and labels.

    *given* has the names of objects that exist although the manifests lack them.
    """
    names = {(each["kind"], each["metadata"]["name"]) for each in documents}
    volumes = {each["name"]: each for each in pod(documents)["volumes"]}
    variables = [each["valueFrom"] for each in container(documents)["env"] if "valueFrom" in each]
    referenced = {
        ("Secret", each["secret"]["secretName"]) for each in volumes.values() if "secret" in each
    }
    referenced |= {
        ("Secret", each["secretKeyRef"]["name"]) for each in variables if "secretKeyRef" in each
    }
    referenced |= {
        ("ConfigMap", each["configMap"]["name"]) for each in volumes.values() if "configMap" in each
    }
    referenced |= {
        ("PersistentVolumeClaim", each["persistentVolumeClaim"]["claimName"])
        for each in volumes.values()
        if "persistentVolumeClaim" in each
    }
    mounted = {each["name"] for each in container(documents)["volumeMounts"]}
    deployment = of_kind(documents, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    unselected = deployment["selector"]["matchLabels"].items() - labels.items()
    return [
        *(f"{kind} {name}" for kind, name in sorted(referenced - names) if name not in given),
        *(f"volume {each}" for each in sorted(mounted ^ volumes.keys())),
        *(f"label {each}" for each in sorted(unselected)),
    ]
