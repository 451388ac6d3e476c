"""Test that the appliance accepts configurations of docker-cache-server unchanged."""

from __future__ import annotations

from pathlib import Path

import bcrypt
import pytest

from entrepot.config.follow import read_rights
from tests.config.config_folder import ConfigFolder
from tests.config.test_access import HASH

# This is the config.yaml in docker-cache-server's README.
README = """\
server:
  address: "0.0.0.0"
  port: 5000

storage:
  directory: "/var/cache/docker-cache-server"

auth:
  enabled: true
  users:
    - username: "admin"
      password: "admin123"
    - username: "user1"
      password: "password1"

cache:
  ttl: "30d"              # 30 days
  cleanup_interval: "1h"
"""
_DAY = 86400.0


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with the lowest cost of bcrypt, because tests hash many passwords."""
    salt = bcrypt.gensalt(4)
    monkeypatch.setattr(bcrypt, "gensalt", lambda _: salt)


def test_the_file_of_its_readme_has_the_same_effect(config_folder: ConfigFolder) -> None:
    """The configuration in docker-cache-server's README has the same effect in the appliance.

    All content, even pushed content, expires 30 days after its last use, and for no other reason.
    """
    config_folder.write(README)
    settings = config_folder.settings()

    assert str(settings.http.addr) == "0.0.0.0:5000"
    assert Path("/var/cache/docker-cache-server") == settings.storage.rootdirectory
    assert (settings.cleaner.ttl, settings.cleaner.runevery) == (30 * _DAY, 3600.0)
    assert (settings.cleaner.hosted, settings.cleaner.maxsize) == (True, 0)
    assert settings.auth.htpasswd is not None
    assert settings.auth.htpasswd.users is not None
    hashes = settings.auth.htpasswd.users
    assert bcrypt.checkpw(b"admin123", hashes["admin"].encode())
    assert bcrypt.checkpw(b"password1", hashes["user1"].encode())


def test_each_of_its_keys_is_one_warning_with_the_replacement(config_folder: ConfigFolder) -> None:
    """Each key of docker-cache-server causes one warning with file, line and the new key."""
    config_folder.write(README)
    warnings = dict(
        each.split(": docker-cache-server's name", 1) for each in config_folder.warnings()
    )
    users = warnings.pop("config.yml:11: auth.users")

    assert warnings == {
        "config.yml:2: server.address": "; write http.addr",
        "config.yml:3: server.port": "; write http.addr",
        "config.yml:6: storage.directory": "; write storage.filesystem.rootdirectory",
        "config.yml:9: auth.enabled": "; write auth.htpasswd",
        "config.yml:17: cache.ttl": (
            "; write cleaner.ttl, cleaner.hosted: true and cleaner.maxsize: 0"
        ),
        "config.yml:18: cache.cleanup_interval": "; write cleaner.runevery",
    }
    assert (
        ", and passwords in plain text; write auth.htpasswd.users: {admin: HASH, user1: HASH}"
        in users
    )
    assert "admin123" not in users


def test_the_warning_about_its_users_shows_no_hash(config_folder: ConfigFolder) -> None:
    """A warning about docker-cache-server's users shows no hash, because each start logs it."""
    hashed = f"{{username: ann, password: {HASH}}}"
    config_folder.write(f"auth: {{users: [{{username: admin, password: sesame}}, {hashed}]}}")
    (warning,) = config_folder.warnings()

    assert warning.startswith("config.yml:1: auth.users: docker-cache-server's name, and passwords")
    assert "write auth.htpasswd.users: {admin: HASH, ann: HASH} with each HASH that" in warning
    assert "$2" not in warning


def test_variables_of_its_http_section_are_read(config_folder: ConfigFolder) -> None:
    """Variables of docker-cache-server's `http:` section are read.

    Newer releases of docker-cache-server have the section `http:` of docker distribution, with the
    prefix `DCS_` for the variables of this section.
    """
    found = config_folder.settings(
        DCS_HTTP_ADDR="127.0.0.1:6000", DCS_HTTP_DEBUG_ADDR="127.0.0.1:6001"
    )

    assert str(found.http.addr) == "127.0.0.1:6000"
    assert str(found.http.debug.addr) == "127.0.0.1:6001"
    assert (
        str(config_folder.settings(DCS_SERVER_PORT="7000", DCS_HTTP_ADDR=":6000").http.addr)
        == ":6000"
    )


def test_its_variables_and_its_flags_are_read(config_folder: ConfigFolder) -> None:
    """Variables and flags of docker-cache-server are read.

    A flag overrides a variable, and a variable overrides the file, even if one source uses the old
    name of a setting and the other source the new name.
    """
    config_folder.write(README + "http: {addr: ':7000'}")
    assert str(config_folder.settings().http.addr) == ":7000"

    assert str(config_folder.settings(DCS_SERVER_PORT="8080").http.addr) == ":8080"
    assert (
        str(config_folder.settings("--server.port=9000", DCS_SERVER_PORT="8080").http.addr)
        == ":9000"
    )
    assert str(config_folder.settings("--server.address=::1").http.addr) == "[::1]:7000"
    assert config_folder.settings("--cache.ttl=720h", DCS_CACHE_TTL="1h").cleaner.ttl == 30 * _DAY
    assert config_folder.settings(DCS_CACHE_CLEANUP_INTERVAL="60m").cleaner.runevery == 3600.0
    assert Path("/x") == config_folder.settings(DCS_STORAGE_DIRECTORY="/x").storage.rootdirectory
    assert Path("/y") == config_folder.settings(REGISTRYDIR="/y").storage.rootdirectory


def test_a_port_alone_keeps_the_default_address(config_folder: ConfigFolder) -> None:
    """A port without an address keeps the default address.

    Outside the image the default address is loopback, so that no other machine gets access
    unintentionally.
    """
    assert str(config_folder.settings("--server.port=5001").http.addr) == "127.0.0.1:5001"
    assert (
        str(config_folder.settings("--server.port=5001", ENTREPOT_IMAGE="1").http.addr) == ":5001"
    )
    assert str(config_folder.settings("--server.address=10.0.0.1").http.addr) == "10.0.0.1:5000"


def test_the_appliance_s_settings_override_the_effects_of_its_ttl(
    config_folder: ConfigFolder,
) -> None:
    """The appliance's own settings override the effects of docker-cache-server's `ttl`."""
    cleaner = config_folder.settings(
        DCS_CACHE_TTL="1h", CLEANER_HOSTED="false", CLEANER_MAXSIZE="1G"
    ).cleaner

    assert (cleaner.ttl, cleaner.hosted, cleaner.maxsize) == (3600.0, False, 2**30)


def test_the_data_folder_of_its_newer_releases_is_found(
    config_folder: ConfigFolder, tmp_path: Path
) -> None:
    """Images of older and newer releases of docker-cache-server are found in its folder."""
    flag = f"--storage.directory={tmp_path}"
    assert tmp_path == config_folder.settings(flag).storage.rootdirectory

    (tmp_path / "data/docker/registry/v2").mkdir(parents=True)

    assert tmp_path / "data" == config_folder.settings(flag).storage.rootdirectory


def test_disabled_auth_is_open_to_all(config_folder: ConfigFolder) -> None:
    """With docker-cache-server's `auth.enabled: false`, the file's users are ignored."""
    config_folder.write("auth: {enabled: false, users: [{username: a, password: b}]}")

    assert config_folder.settings().auth.htpasswd is None
    assert config_folder.settings(DCS_AUTH_ENABLED="true").auth.htpasswd is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auth: {enabled: true}", "auth.enabled: no users are configured; set auth.htpasswd.users"),
        (
            "auth: {enabled: true, users: }",
            "auth.enabled: no users are configured; set auth.htpasswd.users",
        ),
        ("auth: {users: []}", "auth.users: no users are configured; set auth.htpasswd.users"),
        (
            "auth: {enabled: false, htpasswd: {path: /p}}",
            "auth.enabled: the key is false, but auth.htpasswd is set; keep one",
        ),
        ("auth: {enabled: perhaps}", "auth.enabled=perhaps: neither true nor false; try true"),
        (
            "auth: {users: [{username: a}]}",
            "auth.users=***: not a list of users; write username and password of each",
        ),
        ("auth: {users: [{username: a, password: ''}]}", "auth.users=***: empty; "),
        ("server: {port: many}", "server.port=127.0.0.1:many: not host:port; "),
        ("cache: {ttl: soon}", "cache.ttl=soon: not a span; try 1h30m, 30d or 60s"),
        ("cache: {tll: 1h}", "cache.tll: no such key; did you mean cache.ttl?"),
    ],
)
def test_an_invalid_value_is_a_problem_under_its_own_key(
    config_folder: ConfigFolder, text: str, expected: str
) -> None:
    """The message about an invalid value of docker-cache-server names the key in the file.

    If the value were ignored, a protection that the operator has requested might be missing.
    """
    config_folder.write(text)

    (problem,) = config_folder.problems()

    assert problem.startswith(f"config.yml:1: {expected}")


def test_an_unknown_variable_with_its_prefix_is_a_warning(config_folder: ConfigFolder) -> None:
    """An unknown variable with docker-cache-server's prefix causes a warning."""
    warning = "DCS_SERVER_PROT: no such setting; did you mean DCS_SERVER_PORT?"

    assert [warning] == config_folder.warnings(DCS_SERVER_PROT="1")


def test_its_users_may_be_a_map_or_have_hashes(config_folder: ConfigFolder) -> None:
    """docker-cache-server's users can be a map; hashes of passwords are not hashed again."""
    config_folder.write(f"auth: {{users: {{ann: {HASH}}}}}")
    first = config_folder.settings().auth.htpasswd
    config_folder.write(f"auth: {{users: [{{username: ann, password: {HASH}}}]}}")
    second = config_folder.settings().auth.htpasswd

    assert first is not None
    assert first == second
    assert first.users == {"ann": HASH}
    assert "plain" not in config_folder.warnings()[0]


def test_changes_of_its_users_take_effect_without_a_restart(config_folder: ConfigFolder) -> None:
    """A change of the users in docker-cache-server's file takes effect without a restart.

    The appliance rereads these users as it rereads the users of `auth.htpasswd.users`.
    """
    config_folder.write(README)
    settings = config_folder.settings()
    users = read_rights(config_folder.file.read_bytes(), config_folder.file).users

    assert settings.followed.users
    assert users is not None
    assert users.keys() == {"admin", "user1"}
