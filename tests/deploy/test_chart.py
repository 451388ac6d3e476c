"""The Helm chart: whatever its values, Kubernetes takes what it makes, and all of it fits."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import config
from config import environment as variables
from tests.deploy import chart, manifests
from tests.deploy.chart import CHART, ROOT
from tests.deploy.manifests import VERSIONS

GIVEN = frozenset({"my-tls", "my-users", "my-secret", "my-claim"})
CHOICES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "TLS": {"tls": {"secret": "my-tls"}},
    "passwords": {"htpasswd": {"secret": "my-users"}},
    "mine": {"pullSecret": {"existing": "my-secret"}, "persistence": {"existing": "my-claim"}},
    "OpenShift": {"openshift": True},
    "everything": {
        "image": {"tag": "v9", "pullPolicy": "Always", "pullSecrets": ["one", "two"]},
        "tls": {"secret": "my-tls"},
        "htpasswd": {"secret": "my-users", "realm": 'Our "Realm"'},
        "persistence": {"storageClass": "fast", "size": "100Gi"},
        "cleaner": {"maxsize": "80G", "threshold": 10, "ttl": "7d"},
        "env": {"ENTREPOT_FRESHNESS": "5m", "ENTREPOT_WORKERS": 4, "CLEANER_HOSTED": True},
        "service": {"type": "NodePort", "port": 5000},
        "hostPort": 5000,
        "resources": {"limits": {"memory": "2Gi", "cpu": 2}},
        "nodeSelector": {"disk": "large"},
        "tolerations": [{"key": "cache", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
}
every_choice = pytest.mark.parametrize("more", CHOICES.values(), ids=CHOICES.keys())


@every_choice
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_what_it_makes(more: dict[str, Any], version: str) -> None:
    """Every field is one that Kubernetes knows, of the type that it wants."""
    documents = chart.documents(**more)

    assert [said for each in documents for said in manifests.objections(each, version)] == []


@every_choice
def test_what_it_names_is_there(more: dict[str, Any]) -> None:
    """Or is what the operator said that he has."""
    assert manifests.loose_ends(chart.documents(**more), GIVEN) == []


@every_choice
def test_its_variables_are_known(more: dict[str, Any], tmp_path: Path) -> None:
    """And their values can be read."""
    told = manifests.environment(chart.documents(**more))
    users = tmp_path / "htpasswd"
    users.write_text("")

    assert variables.read(told).warnings == []
    assert config.examine([], told).problems == ()


@every_choice
def test_the_service_leads_to_the_container(more: dict[str, Any]) -> None:
    """By the name of a port, and by labels that the pod has."""
    documents = chart.documents(**more)
    service = manifests.of_kind(documents, "Service")["spec"]
    labels = manifests.of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    (port,) = manifests.container(documents)["ports"]

    assert service["selector"].items() <= labels.items()
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
    told = config.load([], manifests.environment(documents)).settings
    assert port["containerPort"] == told.http.addr.port


@every_choice
def test_the_schema_takes_the_values(more: dict[str, Any]) -> None:
    """Helm holds what an operator writes against it."""
    jsonschema.validate(chart.values(**more), _schema())


@pytest.mark.parametrize(
    "more",
    [
        {"hostport": 5000},
        {"tls": {"secretName": "my-tls"}},
        {"cleaner": {"threshold": "20%"}},
        {"service": {"type": "Ingress"}},
        {"persistence": {"size": "ten"}},
        {"env": {"A-B": "1"}},
        {"openshift": True, "hostPort": 5000},
    ],
    ids="".join,
)
def test_the_schema_refuses_what_would_be_without_effect(more: dict[str, Any]) -> None:
    """A misspelt value is no value."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(chart.values(**more), _schema())


def test_the_secret_holds_what_was_said() -> None:
    """Byte for byte."""
    said = '{"auths": {"quay.io": {"auth": "cm9ib3Q6c2VjcmV0"}}}'
    secret = manifests.of_kind(chart.documents(pullSecret={"json": said}), "Secret")

    text = json.dumps(secret["data"])
    assert config.parse_pull_secret(secret["data"][".dockerconfigjson"].encode()).hosts == (
        "quay.io",
    )
    assert said not in text


def test_openshift_chooses_the_user() -> None:
    """A user or group of ours would be refused by its restricted-v2 rules."""
    documents = chart.documents(openshift=True)
    assert manifests.refusals(documents) == []
    context = manifests.pod(documents)["securityContext"]

    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
    assert context["runAsNonRoot"] is True


def test_the_chart_is_as_old_as_what_it_installs() -> None:
    """One version for all."""
    told = yaml.safe_load((CHART / "Chart.yaml").read_text())
    line = f'version = "{told["appVersion"]}"'

    assert line in (ROOT / "pyproject.toml").read_text().splitlines()
    assert told["version"] == told["appVersion"]


def test_the_chart_makes_what_deployment_yaml_says() -> None:
    """Two ways to the same pod: who changes one changes the other."""
    written = manifests.read(ROOT / "deployment.yaml")
    ours, theirs = manifests.container(written), manifests.container(chart.documents())

    same = ("startupProbe", "livenessProbe", "readinessProbe", "securityContext", "resources")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert (
        manifests.environment(written).items() <= manifests.environment(chart.documents()).items()
    )


def test_who_needs_no_password_is_told() -> None:
    """Once, after the installation."""
    mark = "Everybody who can reach it"

    assert mark in chart.rendered()["NOTES.txt"]
    assert mark not in chart.rendered(htpasswd={"secret": "my-users"})["NOTES.txt"]


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not here")
@every_choice
def test_helm_renders_it_as_we_do(more: Mapping[str, Any], tmp_path: Path) -> None:
    """Our own reading of templates is held against the real one, where it can be had."""
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(dict(more)))
    words = ["helm", "template", "cache", str(CHART), "--namespace=registry", f"--values={file}"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert sorted(found, key=_kind) == sorted(chart.documents(**more), key=_kind)


def _kind(document: Mapping[str, Any]) -> str:
    return str(document["kind"])


def _schema() -> Any:
    return json.loads((CHART / "values.schema.json").read_text())
