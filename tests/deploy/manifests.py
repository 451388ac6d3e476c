"""What holds for manifests whoever wrote them: the schema, and that one leads to the other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a library's own trouble with its own imports
    import kubernetes_validate

Document = dict[str, Any]

# The oldest and the newest that the library knows and we promise (Chart.yaml, kubeVersion).
VERSIONS = ("1.25", "1.37")


def read(file: Path) -> list[Document]:
    """Return the manifests of a file, lists unpacked as kubectl unpacks them."""
    found = [each for each in yaml.safe_load_all(file.read_text()) if each]
    return [each for outer in found for each in outer.get("items", [outer])]


def objections(document: Document, version: str) -> list[str]:
    """Return what a Kubernetes of that version would refuse, unknown fields included."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{document['kind']}: {error.message}"]
    return []


def of_kind(documents: Sequence[Document], kind: str) -> Document:
    """Return the one manifest of a kind."""
    (found,) = (each for each in documents if each["kind"] == kind)
    return found


def pod(documents: Sequence[Document]) -> Document:
    """Return the pod that the deployment makes."""
    found: Document = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    return found


def container(documents: Sequence[Document]) -> Document:
    """Return its one container."""
    (found,) = pod(documents)["containers"]
    return dict(found)


def environment(documents: Sequence[Document]) -> dict[str, str]:
    """Return what the container is told."""
    return {each["name"]: each["value"] for each in container(documents)["env"]}


def refusals(documents: Sequence[Document]) -> list[str]:
    """Return what OpenShift's restricted-v2 security context constraint would refuse of the pod."""
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
    """Return what is named and is neither here nor *given* by the operator."""
    names = {(each["kind"], each["metadata"]["name"]) for each in documents}
    volumes = {each["name"]: each for each in pod(documents)["volumes"]}
    wanted = {
        ("Secret", each["secret"]["secretName"]) for each in volumes.values() if "secret" in each
    } | {
        ("PersistentVolumeClaim", each["persistentVolumeClaim"]["claimName"])
        for each in volumes.values()
        if "persistentVolumeClaim" in each
    }
    mounted = {each["name"] for each in container(documents)["volumeMounts"]}
    deployment = of_kind(documents, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    unselected = deployment["selector"]["matchLabels"].items() - labels.items()
    return [
        *(f"{kind} {name}" for kind, name in sorted(wanted - names) if name not in given),
        *(f"volume {each}" for each in sorted(mounted ^ volumes.keys())),
        *(f"label {each}" for each in sorted(unselected)),
    ]
