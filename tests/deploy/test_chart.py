"""Tests of the Helm chart: its output is valid for Kubernetes and consistent."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from entrepot import config
from entrepot.config.sources import environment as variables
from tests.deploy import chart, manifests
from tests.deploy.chart import CHART, ROOT
from tests.deploy.manifests import VERSIONS

GIVEN = frozenset(
    {
        *("my-tls", "my-users", "my-secret", "my-claim", "my-keys", "my-receiver", "my-roots"),
        *("my-s3", "my-ca", "my-config"),
    }
)
SECRETS = {
    "headers": "{Authorization: [Bearer t]}",
    "url": "https://ann:pw@hooks.example/event",
    "access": "AKIA",
    "secret": "s",
    "account": "bXkta2V5",
}
_S3 = {
    "driver": "s3",
    "parameters": {"region": "eu-central-1", "bucket": "images", "chunksize": 10485760},
    "parametersFrom": {
        "accesskey": {"secret": "my-s3", "key": "access"},
        "secretkey": {"secret": "my-s3", "key": "secret"},
    },
}
CONFIG = "version: 0.1\nupstreams:\n  harbor.example:\n    ca: /ca/ca.crt\n"
TOKEN = {"realm": "https://auth.example/token", "service": "registry", "issuer": "auth"}
CHOICES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "TLS": {"tls": {"secret": "my-tls"}},
    "passwords": {"htpasswd": {"secret": "my-users"}},
    "existing objects": {
        "pullSecret": {"existing": "my-secret"},
        "persistence": {"existing": "my-claim"},
    },
    "tokens by certificates": {"auth": {"token": {**TOKEN, "configMap": "my-roots"}}},
    "tokens by a key set": {
        "auth": {
            "token": {
                **TOKEN,
                "secret": "my-keys",
                "rootcertbundle": "",
                "jwks": "keys.json",
                "signingalgorithms": ["RS256", "ES256"],
                "autoredirect": True,
            }
        }
    },
    "notifications": {
        "notifications": {
            "includereferences": True,
            "endpoints": [
                {
                    "name": "ci",
                    "url": "https://ci.example/event",
                    "headersFrom": {"secret": "my-receiver", "key": "headers"},
                    "options": {
                        "timeout": "5s",
                        "threshold": 5,
                        "ignoredmediatypes": ["application/octet-stream"],
                        "ignore": {"actions": ["pull"]},
                    },
                },
                {"name": "hooks", "urlFrom": {"secret": "my-receiver", "key": "url"}},
            ],
        }
    },
    "OpenShift": {
        "openshift": True,
        "route": {"enabled": True, "host": "images.example"},
        "serviceAccount": {"create": True, "annotations": {"role": "images"}},
    },
    "a bucket": {"storage": {**_S3, "files": "my-ca"}},
    "Azure": {
        "storage": {
            "driver": "azure",
            "parameters": {"accountname": "images", "container": "registry"},
            "parametersFrom": {"accountkey": {"secret": "my-keys", "key": "account"}},
        }
    },
    "OSS": {
        "storage": {
            "driver": "oss",
            "parameters": {"region": "oss-cn-beijing", "bucket": "images"},
            "parametersFrom": {
                "accesskeyid": {"secret": "my-keys", "key": "access"},
                "accesskeysecret": {"secret": "my-keys", "key": "secret"},
            },
        }
    },
    "in memory": {"storage": {"driver": "inmemory"}},
    "a configuration file": {
        "config": {"content": CONFIG},
        "ca": {"secret": "my-ca"},
        "cleaner": {"maxsize": "", "threshold": "", "ttl": ""},
        "persistence": {"enabled": False},
    },
    "an existing configuration file": {
        "config": {"configMap": "my-config"},
        "ca": {"configMap": "my-ca"},
        "fullnameOverride": "images",
    },
    "in front of it": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "hosts": ["images.example"],
            "tlsSecret": "my-tls",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "0"},
        },
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "gateway"}],
            "hostnames": ["images.example"],
            "annotations": {"a": "b"},
        },
        "route": {"enabled": True, "annotations": {"a": "b"}},
        "serviceMonitor": {
            "enabled": True,
            "labels": {"release": "prometheus"},
            "endpoint": {"scrapeTimeout": "5s"},
        },
        "networkPolicy": {
            "enabled": True,
            "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
        },
        "service": {
            "type": "LoadBalancer",
            "nodePort": 30500,
            "clusterIP": "10.96.0.50",
            "annotations": {"a": "b"},
            "loadBalancerIP": "192.0.2.1",
            "loadBalancerClass": "example.com/lb",
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
            "externalTrafficPolicy": "Local",
        },
    },
    "everything": {
        "image": {
            "digest": f"sha256:{'a' * 64}",
            "pullPolicy": "Always",
            "pullSecrets": ["one", "two"],
        },
        "tls": {"secret": "my-tls"},
        "htpasswd": {"secret": "my-users", "realm": 'Our "Realm"'},
        "persistence": {"storageClass": "fast", "size": "100Gi", "annotations": {"a": "b"}},
        "cleaner": {"maxsize": "80G", "threshold": 10, "ttl": "7d"},
        "env": {
            "ENTREPOT_FRESHNESS": "5m",
            "ENTREPOT_WORKERS": 4,
            "CLEANER_HOSTED": True,
            "CLEANER_TTL": "9d",
            "ENTREPOT_EDGE_CACHE_SIZE": 16777216,
        },
        "extraEnv": [
            {"name": "CLEANER_MAXSIZE", "value": "70G"},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "serviceAccount": {"name": "images"},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "ci"},
        "priorityClassName": "high",
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "terminationGracePeriodSeconds": 71,
        "service": {"type": "NodePort", "port": 5000},
        "hostPort": 5000,
        "resources": {"limits": {"memory": "2Gi", "cpu": 2}},
        "nodeSelector": {"disk": "large"},
        "tolerations": [{"key": "cache", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
}
every_choice = pytest.mark.parametrize("more", CHOICES.values(), ids=CHOICES.keys())


@pytest.mark.parametrize(
    ("choice", "version"),
    [
        *((name, VERSIONS[0]) for name in CHOICES if name not in {"TLS", "passwords", "OSS"}),
        *((name, VERSIONS[-1]) for name in ("OpenShift", "in front of it", "everything")),
    ],
)
def test_its_output_is_valid_for_kubernetes(choice: str, version: str) -> None:
    """The chart's output is valid for the oldest and the newest supported Kubernetes."""
    documents = chart.documents(**CHOICES[choice])

    assert [error for each in documents for error in manifests.objections(each, version)] == []


@every_choice
def test_all_references_are_resolved(more: dict[str, Any]) -> None:
    """Each Secret, ConfigMap and claim that the chart refers to is in its output or in `GIVEN`."""
    assert manifests.loose_ends(chart.documents(**more), GIVEN) == []


@every_choice
def test_its_variables_are_known(more: dict[str, Any], tmp_path: Path) -> None:
    """The chart sets only environment variables that Entrepot knows, with valid values."""
    environ = _environment(chart.documents(**more), tmp_path)

    assert variables.read(environ).warnings == []
    assert config.examine([], environ).problems == ()


def _environment(documents: list[dict[str, Any]], folder: Path) -> dict[str, str]:
    """Return the container's variables; the configuration file that they name is in *folder*."""
    environ = manifests.environment(documents, SECRETS)
    if "REGISTRY_CONFIGURATION_PATH" in environ:
        file = folder / "config.yml"
        file.write_text(CONFIG)
        environ["REGISTRY_CONFIGURATION_PATH"] = str(file)
    return environ


@every_choice
def test_the_service_selects_the_container(more: dict[str, Any], tmp_path: Path) -> None:
    """The chart's Service selects its pod by labels, and names a port of the container."""
    documents = chart.documents(**more)
    service = manifests.of_kind(documents, "Service")["spec"]
    labels = manifests.of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    (port,) = manifests.container(documents)["ports"]

    assert service["selector"].items() <= labels.items()
    assert [each["targetPort"] for each in service["ports"]] == [port["name"]]
    settings = config.load([], _environment(documents, tmp_path)).settings
    assert port["containerPort"] == settings.http.addr.port


@every_choice
def test_the_values_match_the_schema(more: dict[str, Any]) -> None:
    """The values of these tests match the schema with which Helm checks an operator's values."""
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
        {"auth": {"token": {**TOKEN}}},
        {"auth": {"token": {**TOKEN, "secret": "one", "configMap": "two"}}},
        {"auth": {"token": {**TOKEN, "secret": "one", "rootcertbundle": ""}}},
        {"auth": {"token": {**TOKEN, "secret": "one", "issuer": ""}}},
        {"auth": {"token": {**TOKEN, "secret": "one"}}, "htpasswd": {"secret": "two"}},
        {"notifications": {"endpoints": [{"name": "a"}]}},
        {"notifications": {"endpoints": [{"name": "a", "url": "https://a", "timeout": "1s"}]}},
        {"notifications": {"endpoints": [{"name": "a", "urlFrom": {"secret": "b"}}]}},
        {"storage": {"driver": "gcs", "parameters": {"bucket": "images"}}},
        {"storage": {"driver": "s3", "parameters": {"region": "eu-central-1"}}},
        {"storage": {"driver": "azure", "parameters": {"container": "images"}}},
        {"storage": {"driver": "oss", "parameters": {"endpoint": "https://oss.example"}}},
        {"storage": {"parametersFrom": {"accesskey": "my-s3"}}},
        {"config": {"content": "version: 0.1", "configMap": "my-config"}},
        {"ca": {"secret": "one", "configMap": "two"}},
        {"extraEnv": [{"name": "A"}]},
        {"ingress": {"enabled": True}},
        {"httpRoute": {"enabled": True}},
        {"image": {"digest": "latest"}},
    ],
    ids="".join,
)
def test_the_schema_refuses_values_without_effect(more: dict[str, Any]) -> None:
    """The chart's schema refuses values without effect, such as a misspelt one."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(chart.values(**more), _schema())


def test_a_bucket_has_its_keys_from_values_and_secrets() -> None:
    """The chart sets the driver's keys as variables, with the login from an existing Secret."""
    documents = chart.documents(**CHOICES["a bucket"])
    storage = config.load([], manifests.environment(documents, SECRETS)).settings.storage

    assert storage.s3 is not None
    assert (storage.s3.bucket, storage.s3.region) == ("images", "eu-central-1")
    assert (storage.s3.accesskey, storage.s3.secretkey) == ("AKIA", "s")
    assert storage.s3.chunksize == 10485760
    assert "AKIA" not in yaml.safe_dump_all(documents)


@pytest.mark.parametrize(
    ("driver", "parameters", "expected"),
    [
        (
            "azure",
            {"accountname": "images", "container": "c", "credentials_type": "client_secret"},
            "REGISTRY_STORAGE_AZURE_CREDENTIALS_TYPE",
        ),
        (
            "s3",
            {"region": "eu-central-1", "bucket": "images", "ca": "/storage/ca.crt"},
            "REGISTRY_STORAGE_S3_CA",
        ),
    ],
)
def test_each_driver_has_its_variables(
    driver: str, parameters: dict[str, str], expected: str
) -> None:
    """A driver's variables have docker distribution's names, such as REGISTRY_STORAGE_S3_BUCKET."""
    more = {"storage": {"driver": driver, "parameters": parameters, "files": "my-keys"}}
    documents = chart.documents(**more)

    jsonschema.validate(chart.values(**more), _schema())
    assert expected in manifests.environment(documents)
    assert manifests.loose_ends(documents, GIVEN) == []


def test_content_in_memory_has_no_volume_and_no_size_limit_of_a_disk() -> None:
    """With `inmemory` the content is in a tmpfs, and the chart sets no limit for the content."""
    documents = chart.documents(storage={"driver": "inmemory"})
    (data,) = (each for each in manifests.pod(documents)["volumes"] if each["name"] == "data")

    assert data["emptyDir"] == {"medium": "Memory"}
    assert "PersistentVolumeClaim" not in {each["kind"] for each in documents}
    assert "CLEANER_MAXSIZE" not in manifests.environment(documents)


@every_choice
def test_each_variable_is_set_once(more: dict[str, Any]) -> None:
    """A variable of the operator replaces the chart's variable with the same name.

    Kubernetes would warn about a second variable with the same name.
    """
    names = [each["name"] for each in manifests.container(chart.documents(**more))["env"]]

    assert len(names) == len(set(names))


def test_variables_of_the_operator_win() -> None:
    """Variables in `env` replace the chart's variables, and `extraEnv` replaces both."""
    environ = manifests.environment(chart.documents(**CHOICES["everything"]))

    assert (environ["CLEANER_TTL"], environ["CLEANER_MAXSIZE"]) == ("9d", "70G")


def test_large_numbers_are_written_in_full() -> None:
    """Numbers are written in full, although Helm reads them as floating point (1.6777216e+07)."""
    environ = manifests.environment(chart.documents(**CHOICES["everything"]))

    assert environ["ENTREPOT_EDGE_CACHE_SIZE"] == "16777216"


def test_a_configuration_file_is_read_with_its_certificate_authority() -> None:
    """The chart mounts the ConfigMap's file at the path in REGISTRY_CONFIGURATION_PATH."""
    documents = chart.documents(**CHOICES["a configuration file"])
    found = manifests.of_kind(documents, "ConfigMap")["data"]["config.yml"]
    mounts = {
        each["name"]: each["mountPath"] for each in manifests.container(documents)["volumeMounts"]
    }
    environ = manifests.environment(documents)

    assert found == CONFIG
    assert environ["REGISTRY_CONFIGURATION_PATH"] == f"{mounts['config']}/config.yml"
    assert mounts["ca"] == "/ca"
    assert not [name for name in environ if name.startswith("CLEANER_")]


def test_the_readme_describes_every_value() -> None:
    """README.md of the chart has a line for each section of the values."""
    table = (CHART / "README.md").read_text().partition("## Values")[2]

    assert [name for name in chart.values() if f"`{name}`" not in table] == []


def test_tokens_are_verified_with_the_files_of_the_given_object() -> None:
    """The settings of `auth.token` name the key files at the path where the chart mounts them."""
    documents = chart.documents(**CHOICES["tokens by certificates"])
    token = config.load([], manifests.environment(documents)).settings.auth.token
    mounts = {
        each["name"]: each["mountPath"] for each in manifests.container(documents)["volumeMounts"]
    }

    assert token is not None
    assert (token.realm, token.service, token.issuer) == tuple(TOKEN.values())
    assert str(token.rootcertbundle) == f"{mounts['tokens']}/tokens.pem"
    assert token.jwks is None


def test_endpoints_have_their_options_and_secrets() -> None:
    """Endpoints' headers and URLs come from a Secret, because the chart's output is not secret."""
    documents = chart.documents(**CHOICES["notifications"])
    found = config.load([], manifests.environment(documents, SECRETS)).settings.notifications
    first, second = found.endpoints

    assert found.events.includereferences
    assert (first.name, first.timeout, first.threshold) == ("ci", 5.0, 5)
    assert first.headers == (("Authorization", "Bearer t"),)
    assert (first.ignoredmediatypes, first.actions) == (("application/octet-stream",), ("pull",))
    assert (second.name, second.url) == ("hooks", SECRETS["url"])
    assert "Bearer" not in yaml.safe_dump_all(documents)


def test_the_secret_contains_the_given_json() -> None:
    """The chart's Secret contains the given JSON in base64; no object has it as plain text.

    No object except the Secret contains the JSON in base64.
    """
    login = "cm9ib3Q6c2VjcmV0"
    content = f'{{"auths": {{"quay.io": {{"auth": "{login}"}}}}}}'
    documents = chart.documents(pullSecret={"json": content})
    secret = manifests.of_kind(documents, "Secret")
    encoded = secret["data"][".dockerconfigjson"]
    others = json.dumps([each for each in documents if each is not secret])

    assert config.parse_pull_secret(encoded.encode()).hosts == ("quay.io",)
    assert base64.b64decode(encoded).decode() == content
    assert login not in json.dumps(documents)
    assert encoded not in others


def test_openshift_chooses_the_user() -> None:
    """OpenShift chooses the user of the chart's pod, because it refuses a fixed user."""
    documents = chart.documents(openshift=True)
    assert manifests.refusals(documents) == []
    context = manifests.pod(documents)["securityContext"]

    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
    assert context["runAsNonRoot"] is True


def test_the_chart_has_the_version_of_the_appliance() -> None:
    """The chart has the version of the appliance that it deploys."""
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text())
    line = f'version = "{metadata["appVersion"]}"'

    assert line in (ROOT / "pyproject.toml").read_text().splitlines()
    assert metadata["version"] == metadata["appVersion"]


def test_the_chart_agrees_with_deployment_yaml() -> None:
    """The chart and deployment.yaml agree on probes, security context, resources and variables."""
    written = manifests.read(ROOT / "deployment.yaml")
    ours, theirs = manifests.container(written), manifests.container(chart.documents())

    same = ("startupProbe", "livenessProbe", "readinessProbe", "securityContext", "resources")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}
    assert (
        manifests.environment(written).items() <= manifests.environment(chart.documents()).items()
    )


def test_the_notes_warn_of_access_without_passwords() -> None:
    """The notes that Helm prints after an installation warn about access without passwords."""
    mark = "Every client that can connect"

    assert mark in chart.rendered()["NOTES.txt"]
    assert mark not in chart.rendered(htpasswd={"secret": "my-users"})["NOTES.txt"]
    assert mark not in chart.rendered(**CHOICES["tokens by a key set"])["NOTES.txt"]


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")
@every_choice
def test_helm_renders_the_same_output(more: Mapping[str, Any], tmp_path: Path) -> None:
    """Helm, if it is installed, renders the same output as the stand-in of these tests."""
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
