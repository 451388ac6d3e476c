"""deployment.yaml: Kubernetes takes it, and it holds nothing that podman 4.3 can't do."""

from __future__ import annotations

import base64
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

import config
from config import environment as variables
from tests.deploy import manifests
from tests.deploy.manifests import VERSIONS, Document

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENT = ROOT / "deployment.yaml"


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """Return its manifests."""
    return manifests.read(DEPLOYMENT)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(documents: list[Document], version: str) -> None:
    """Every field is one that Kubernetes knows, of the type that it wants."""
    assert [said for each in documents for said in manifests.objections(each, version)] == []


def test_the_schema_is_a_strict_one(documents: list[Document]) -> None:
    """A field that is misspelt is told, however deep."""
    container = manifests.container(documents)
    probe = {"exec": {"commands": ["true"]}}
    deployment = manifests.of_kind(documents, "Deployment")
    spec = {**manifests.pod(documents), "containers": [{**container, "livenessProbe": probe}]}
    bad = {**deployment, "spec": {**deployment["spec"], "template": {"spec": spec}}}

    assert len(manifests.objections(bad, VERSIONS[-1])) == 1


def test_what_it_names_is_there(documents: list[Document]) -> None:
    """Secret, claim, volumes and labels; no loose end."""
    assert manifests.loose_ends(documents) == []


def test_its_pull_secret_can_be_read(documents: list[Document]) -> None:
    """With it as it stands the public registries are served, as it says in the comment."""
    secret = manifests.of_kind(documents, "Secret")
    content = base64.b64decode(secret["data"][".dockerconfigjson"])

    assert secret["type"] == "kubernetes.io/dockerconfigjson"
    assert f"# {content.decode().strip()}\n" in DEPLOYMENT.read_text()
    assert "docker.io" in config.parse_pull_secret(content).hosts
    assert manifests.environment(documents)["PULLSECRETPATH"] == "/secrets/.dockerconfigjson"


def test_its_variables_are_known(documents: list[Document]) -> None:
    """And their values can be read."""
    told = manifests.environment(documents)

    assert variables.read(told).warnings == []
    assert config.examine([], told).problems == ()


def test_the_volume_holds_the_cap(documents: list[Document]) -> None:
    """A disk that is smaller than what may be kept is full before the cleaner minds."""
    claim = manifests.of_kind(documents, "PersistentVolumeClaim")
    asked = claim["spec"]["resources"]["requests"]["storage"]
    cleaner = config.load([], manifests.environment(documents)).settings.cleaner

    assert int(asked.removesuffix("Gi")) * 2**30 > cleaner.maxsize * (100 + cleaner.threshold) / 100


def test_it_is_hardened(documents: list[Document]) -> None:
    """No root, no capability, no writable root, no token of the cluster."""
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


def test_the_documented_edit_makes_it_one_that_openshift_takes(
    documents: list[Document], tmp_path: Path
) -> None:
    """The command stands in the file itself and on the page about OpenShift."""
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
        assert [said for each in found for said in manifests.objections(each, version)] == []


def test_the_service_leads_to_the_container(documents: list[Document]) -> None:
    """Without the node's port it is the only way in."""
    service = manifests.of_kind(documents, "Service")["spec"]
    labels = manifests.of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    (port,) = manifests.container(documents)["ports"]

    assert service["selector"].items() <= labels.items()
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]


def test_it_holds_nothing_that_podman_cannot_do(documents: list[Document]) -> None:
    """In podman 4.3: a Secret only with optional: false; none of the others at all.

    And a claim whose volume is there already is an error, but a list is passed over.
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
