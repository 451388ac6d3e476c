"""Read the corpus: configurations in the forms in which operators run docker distribution.

A file of the corpus begins with lines `#: WORD REST`, which state what the appliance does with the
configuration:

- `refuses KEY...`: each of these keys or variables causes a problem;
- `warns KEY...`: each of these keys or variables causes a warning;
- `follows KEY...`: each of these is a problem or a warning, as its row in the table of docker
  distribution's keys (config/distribution.py) states;
- `starts`: the configuration has no problem;
- `sets KEY VALUE`: `entrepot check` shows the value; without VALUE, any value except `none`;
- `probe METHOD PATH STATUS [HEADER: VALUE]`: a request gets this status, and the response's
  header begins with VALUE;
- `quick`: `make test` also starts an appliance with this configuration.

A key or variable that no line names causes no problem and no warning, except the warning that the
registry is open to every client.

The rest of the file is a configuration file (`.yml`), a compose file (`.compose.yml`), Kubernetes
manifests (`.k8s.yml`) or variables (`.env`). Paths below `/auth`, `/certs`, `/etc/docker` and
`/var/lib` in the file are moved below a folder of the test.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from entrepot.appliance.registry_command import translated
from entrepot.config.distribution import ROWS, KeySupport
from tests.certificates import Authority

FOLDER: Final = Path(__file__).parent / "corpus"
NAMES: Final = sorted(path.name for path in FOLDER.iterdir())
USUAL: Final = "/etc/docker/registry/config.yml"
_HASH = "$2y$05$WSA/jxMOz0hhK1mJ7C1uIOoLQ9Z4WJ0kHVhFWpvJSH5rLMhzcmZJe"
_PATH = re.compile(r"(?<![\w/.:-])/(?:auth|certs|etc/docker|var/lib)/[\w./-]+|/var/lib/registry\b")
_IMAGE = re.compile(r"(?:^|/)(?:registry|registry-photon|entrepot):")


@dataclass(frozen=True, slots=True)
class Case:
    """One file of the corpus.

    `content` is the configuration file that the corpus file contains, or None. `environ` has the
    environment variables of the appliance, and `words` has its arguments after `serve`.
    """

    expected: Mapping[str, list[str]]
    content: str | None
    environ: Mapping[str, str]
    words: tuple[str, ...]

    def keys(self, word: str) -> set[str]:
        """Return the keys of all `#:` lines that begin with *word*."""
        return {key for line in self.expected.get(word, []) for key in line.split()}

    def expects(self, word: str, verdict: KeySupport) -> set[str]:
        """Return the keys of *word*, and the keys of `follows` whose rows have *verdict*."""
        return self.keys(word) | {
            each for each in self.keys("follows") if _verdict(each) is verdict
        }

    def lines(self, word: str) -> list[str]:
        """Return the text after *word* in each `#:` line that begins with *word*."""
        return self.expected.get(word, [])


def read(name: str, folder: Path) -> Case:
    """Read the corpus file *name*, with its paths below *folder*."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    expected: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("#: "):
            word, _, rest = line.removeprefix("#: ").partition(" ")
            expected.setdefault(word, []).append(rest)
    moved = _PATH.sub(lambda found: f"{folder}{found[0]}", text)
    content, environ, words = _parts(name, moved)
    return Case(expected, content, environ | {"ENTREPOT_IMAGE": "1"}, words)


def prepared(folder: Path) -> Path:
    """Write the files that the corpus refers to into *folder*, and return *folder*."""
    for name in ("auth", "certs", "var/lib/registry", "etc/docker/registry"):
        (folder / name).mkdir(parents=True)
    authority = Authority(folder / "certs")
    signed = authority.certificate("127.0.0.1", "localhost")
    for name in ("domain.crt", "domain.key"):
        shutil.copy(signed, folder / "certs" / name)
    shutil.copy(authority.path, folder / "certs/ca.crt")
    shutil.copy(authority.path, folder / "auth/bundle.crt")
    (folder / "auth/htpasswd").write_text(f"ann:{_HASH}\n")
    (folder / "auth/pull-secret.json").write_text('{"auths": {"quay.io": {}}}')
    return folder


def _verdict(name: str) -> KeySupport:
    dotted = name.removeprefix("REGISTRY_").replace("_", ".").lower()
    row = next(row for row in ROWS if _is_row_of(row.key, dotted))
    return row.verdict


def _is_row_of(row: str, dotted: str) -> bool:
    return row in {dotted, f"{dotted}.**"} or row.startswith(f"{dotted}.")


def _parts(name: str, text: str) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
    if name.endswith(".env"):
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return None, {key: value for key, _, value in (each.partition("=") for each in lines)}, ()
    if name.endswith(".compose.yml"):
        return _of_compose(yaml.safe_load(text))
    if name.endswith(".k8s.yml"):
        return _of_kubernetes(list(yaml.safe_load_all(text)))
    return text, {}, ()


def _of_compose(document: dict[str, Any]) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
    (service,) = [each for each in document["services"].values() if _IMAGE.search(each["image"])]
    environment = service.get("environment", {})
    if isinstance(environment, list):
        environment = {
            key: value for key, _, value in (each.partition("=") for each in environment)
        }
    contents = [each["content"] for each in document.get("configs", {}).values()]
    return contents[0] if contents else None, environment, _words(service.get("command", []))


def _of_kubernetes(documents: list[Any]) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
    contents = [each["data"]["config.yml"] for each in documents if each["kind"] == "ConfigMap"]
    (container,) = [each for each in _containers(documents) if _IMAGE.search(each["image"])]
    environment = {each["name"]: each.get("value", "sesame") for each in container.get("env", [])}
    words = [*container.get("command", []), *container.get("args", [])]
    return contents[0] if contents else None, environment, _words(words)


def _containers(documents: list[Any]) -> Iterator[dict[str, Any]]:
    for each in documents:
        yield from each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def _words(command: list[str]) -> tuple[str, ...]:
    """Return the arguments that follow `serve` in the command of a container."""
    words = translated(command)
    assert words[:1] in ([], ["serve"]), words
    return tuple(words[1:])
