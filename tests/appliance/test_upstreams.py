"""Test `upstream_names` and `hidden`, which returns repositories that upstreams would hide."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from entrepot import config
from entrepot.appliance.upstreams import hidden, upstream_names
from entrepot.config.schema import Settings
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from tests.disk_storage import disk_storage


def settings(root: Path, **environ: str) -> Settings:
    """Load the settings of an appliance with the data directory *root*."""
    return config.load([], {"REGISTRYDIR": str(root), **environ}).settings


def test_without_configured_upstreams_the_public_ones_are_listed(tmp_path: Path) -> None:
    """Without configured upstreams `upstream_names` returns the public registries."""
    assert "docker.io" in upstream_names(settings(tmp_path))


@pytest.mark.parametrize("glob", [False, True], ids=["host", "glob"])
def test_an_upstream_that_would_hide_a_pushed_repository_is_a_problem(
    tmp_path: Path,
    glob: bool,  # noqa: FBT001 - a case
) -> None:
    """A pushed repository whose name begins with an upstream's host prevents the start.

    Such a repository would be hidden: requests for its name would be sent to the upstream.
    """
    Repositories(disk_storage(tmp_path)).link_blob(Repository("a.example/team/app"), Digest.of(b""))
    secret = tmp_path / "secret.json"
    secret.write_text('{"auths": {"%s": {}}}' % ("*.example" if glob else "a.example"))
    loaded = settings(tmp_path, PULLSECRETPATH=str(secret))

    assert [each.source for each in hidden(loaded)] == ["a.example/team/app"]
    assert hidden(settings(tmp_path)) == []


def test_public_upstreams_of_a_secret_without_registries_hide_repositories_too(
    tmp_path: Path,
) -> None:
    """If the pull secret names no registry, repositories below public upstreams are reported."""
    Repositories(disk_storage(tmp_path)).link_blob(Repository("quay.io/team/app"), Digest.of(b""))
    secret = tmp_path / "secret.json"
    secret.write_text('{"auths": {}, "credsStore": "desktop"}')
    found = settings(tmp_path, PULLSECRETPATH=str(secret))

    assert [each.source for each in hidden(found)] == ["quay.io/team/app"]
    assert "quay.io" in upstream_names(found)


@pytest.mark.parametrize("host", ["quay.io", "a.example", "localhost:5000", "docker.io"])
@pytest.mark.parametrize("kind", ["default", "secret", "file", "glob"])
def test_the_remedy_in_the_message_works(tmp_path: Path, host: str, kind: str) -> None:
    """The error names a setting that removes the upstream, whatever source declares it."""
    folder = host.replace(":", "_")
    Repositories(disk_storage(tmp_path)).link_blob(Repository(f"{folder}/app"), Digest.of(b""))
    argv, environ = _named(tmp_path, host, kind)
    found = hidden(config.load(argv, environ).settings)
    if kind == "default" and host not in {"quay.io", "docker.io"}:
        assert found == []
        return

    (problem,) = found
    setting = re.search(r"set (upstreams\.\S+\.enabled): (false)", problem.remedy)
    assert setting
    healed = config.load([*argv, f"--{setting[1]}={setting[2]}"], environ).settings

    assert hidden(healed) == []
    assert host not in upstream_names(healed)


def _named(folder: Path, host: str, kind: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and variables that make *host* an upstream by the source *kind*."""
    environ = {"REGISTRYDIR": str(folder)}
    if kind == "file":
        (folder / "config.yml").write_text(f"upstreams: {{{host}: {{}}}}")
        return [str(folder / "config.yml")], environ
    if kind != "default":
        name = re.sub(r"^[a-z]+", "*", host) if kind == "glob" else host
        (folder / "secret.json").write_text(f'{{"auths": {{"{name}": {{}}}}}}')
        environ["PULLSECRETPATH"] = str(folder / "secret.json")
    return [], environ
