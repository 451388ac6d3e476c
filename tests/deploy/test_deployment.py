"""Tests of deployment.yaml: it is valid for Kubernetes, and uses only features of podman 4.3."""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from entrepot import config
from entrepot.config.sources import environment as variables
from tests.deploy import manifests
from tests.deploy.manifests import VERSIONS, Document

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENT = ROOT / "deployment.yaml"


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """Return the Kubernetes manifests of deployment.yaml."""
    return manifests.read(DEPLOYMENT)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_valid_for_kubernetes(documents: list[Document], version: str) -> None:
    """deployment.yaml is valid for the oldest and the newest supported Kubernetes."""
    assert [error for each in documents for error in manifests.objections(each, version)] == []


def test_the_validation_is_strict(documents: list[Document]) -> None:
    """A misspelt field of a manifest is an error at any depth, as the other tests assume."""
    container = manifests.container(documents)
    probe = {"exec": {"commands": ["true"]}}
    deployment = manifests.of_kind(documents, "Deployment")
    spec = {**manifests.pod(documents), "containers": [{**container, "livenessProbe": probe}]}
    bad = {**deployment, "spec": {**deployment["spec"], "template": {"spec": spec}}}

    assert len(manifests.objections(bad, VERSIONS[-1])) == 1


def test_all_references_are_resolved(documents: list[Document]) -> None:
    """Each reference of deployment.yaml (Secret, claim, volumes, labels) is resolved."""
    assert manifests.loose_ends(documents) == []


def test_its_commented_lines_are_valid(tmp_path: Path) -> None:
    """With its commented lines enabled, deployment.yaml mounts Secrets for TLS and passwords."""
    file = tmp_path / "deployment.yaml"
    file.write_text(re.sub(r"^( *)#~ ", r"\1", DEPLOYMENT.read_text(), flags=re.MULTILINE))
    documents = manifests.read(file)
    environ = manifests.environment(documents)
    places = {each["mountPath"]: each["name"] for each in _mounts(documents)}
    volumes = {each["name"]: each["secret"]["secretName"] for each in _secrets(documents)}

    assert [error for each in documents for error in manifests.objections(each, VERSIONS[-1])] == []
    assert variables.read(environ).warnings == variables.read(environ).problems == []
    assert environ["IGNOREREGISTRYLIST"]
    assert environ["CLEANER_RUNEVERY_TIME"]
    for name, secret in (
        ("REGISTRY_AUTH_HTPASSWD_PATH", "entrepot-passwords"),
        ("REGISTRY_HTTP_TLS_CERTIFICATE", "entrepot-tls"),
        ("REGISTRY_HTTP_TLS_KEY", "entrepot-tls"),
    ):
        assert volumes[places[str(Path(environ[name]).parent)]] == secret


def _mounts(documents: list[Document]) -> list[Document]:
    return list(manifests.container(documents)["volumeMounts"])


def _secrets(documents: list[Document]) -> list[Document]:
    return [each for each in manifests.pod(documents)["volumes"] if "secret" in each]


def test_its_pull_secret_is_valid(documents: list[Document]) -> None:
    """With the unchanged pull secret of deployment.yaml, public registries are the upstreams."""
    secret = manifests.of_kind(documents, "Secret")
    content = base64.b64decode(secret["data"][".dockerconfigjson"])

    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    assert f"# {content.decode().strip()}\n" in DEPLOYMENT.read_text()
    assert "docker.io" in config.parse_pull_secret(content).hosts
    assert manifests.environment(documents)["PULLSECRETPATH"] == "/secrets/.dockerconfigjson"


def test_its_variables_are_known(documents: list[Document]) -> None:
    """deployment.yaml sets only environment variables that Entrepot knows, with valid values."""
    environ = manifests.environment(documents)

    assert variables.read(environ).warnings == []
    assert config.examine([], environ).problems == ()


def test_the_volume_is_larger_than_the_cap(documents: list[Document]) -> None:
    """The volume in deployment.yaml is larger than the cleaner's limit, so it never fills up."""
    claim = manifests.of_kind(documents, "PersistentVolumeClaim")
    asked = claim["spec"]["resources"]["requests"]["storage"]
    cleaner = config.load([], manifests.environment(documents)).settings.cleaner

    assert int(asked.removesuffix("Gi")) * 2**30 > cleaner.maxsize * (100 + cleaner.threshold) / 100


def test_it_is_hardened(documents: list[Document]) -> None:
    """The pod in deployment.yaml has few rights, so a break-in gains little.

    The pod runs without root, without capabilities, with a read-only root file system, and without
    a token of the cluster.
    """
    pod, container = manifests.pod(documents), manifests.container(documents)

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"memory"} <= container["resources"]["limits"].keys()
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_the_documented_edit_makes_it_valid_for_openshift(
    documents: list[Document], tmp_path: Path
) -> None:
    """After the edit that a comment in deployment.yaml names, the file is valid for OpenShift."""
    text = DEPLOYMENT.read_text()
    (command,) = set(re.findall(r"(sed '[^']+') deployment\.yaml \| oc apply", text))
    assert command in (ROOT / "docs/openshift.md").read_text()
    edited = tmp_path / "edited.yaml"
    words = [*shlex.split(command), str(DEPLOYMENT)]
    edited.write_text(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    found = manifests.read(edited)

    assert manifests.refusals(documents) == ["runAsUser", "fsGroup", "hostPort"]
    assert manifests.refusals(found) == []
    assert manifests.loose_ends(found) == []
    for version in VERSIONS:
        assert [error for each in found for error in manifests.objections(each, version)] == []


def test_the_service_selects_the_container(documents: list[Document]) -> None:
    """The Service of deployment.yaml selects its container.

    Without a port of the node (`hostPort`) this Service is the only access to the appliance.
    """
    service = manifests.of_kind(documents, "Service")["spec"]
    labels = manifests.of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    (port,) = manifests.container(documents)["ports"]

    assert service["selector"].items() <= labels.items()
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]


def test_it_uses_only_features_of_podman_4_3(documents: list[Document]) -> None:
    """deployment.yaml uses only features of podman 4.3, and the values that podman needs.

    podman refuses a claim whose volume exists, but ignores a List of claims, so deployment.yaml has
    its claim in a List.
    """
    pod, container = manifests.pod(documents), manifests.container(documents)
    secrets = [each["secret"] for each in pod["volumes"] if "secret" in each]

    assert not {"hostNetwork", "initContainers"} & pod.keys()
    assert [each["optional"] for each in secrets] == [False]
    assert all("valueFrom" not in each for each in container["env"])
    assert "envFrom" not in container
    assert all("stringData" not in each for each in documents)
    assert all("httpGet" not in container[name] for name in container if name.endswith("Probe"))
    assert all("hostPort" in each for each in container["ports"])
    kinds = [each["kind"] for each in yaml.safe_load_all(DEPLOYMENT.read_text())]
    assert kinds == ["Secret", "List", "Deployment"]
