"""With `proxy.exec`, a program with the protocol of Docker's credential helpers supplies logins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.registry.upstream import credential_helper
from entrepot.registry.upstream.credential_helper import HelperCredentials, HelperFailed, ask
from entrepot.registry.upstream.credentials import Credential, credentials_for
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.runtime.polling import poll
from tests.clock import Clock
from tests.registry.worker_modules import worker_modules

pytestmark = pytest.mark.slow

_HOST = "registry.example:8443"
_LOGIN = '{"ServerURL": "x", "Username": "robot", "Secret": "secret"}'
Helper = Callable[[str], str]


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Helper:
    """Return a function that writes a shell script as a credential helper and returns its path."""
    # other users can own the temporary folder, so without this patch root would reject the helper
    monkeypatch.setattr(credential_helper, "_only_root_changes", lambda _: True)

    def write(script: str) -> str:
        path = tmp_path / "docker-credential-test"
        path.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test sets."""
    return Clock(1000.0)


def _is_dead(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state in "ZX"


def _runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


def test_the_program_gets_the_word_get_and_the_host(helper: Helper, tmp_path: Path) -> None:
    """A credential helper receives the argument `get`, and the host on its standard input.

    The protocol of docker-credential-helpers defines this.
    """
    command = helper(f"echo \"$#$1 $(cat)\" > {tmp_path}/seen; echo '{_LOGIN}'")

    assert ask(command, _HOST) == Credential("robot", "secret")
    assert (tmp_path / "seen").read_text() == f"1get {_HOST}\n"


def test_a_program_may_leave_its_input_unread(helper: Helper) -> None:
    """A credential helper may ignore its input, for example if it serves only one registry."""
    assert ask(helper(f"exec <&-; echo '{_LOGIN}'"), _HOST) == Credential("robot", "secret")


def test_an_identity_token_is_not_a_password(helper: Helper) -> None:
    """If a helper returns the user `<token>`, the secret is an identity token, not a password."""
    command = helper('echo \'{"Username": "<token>", "Secret": "abc"}\'')

    assert ask(command, _HOST) == Credential("", "", identity_token="abc")


def test_a_program_that_knows_no_login_is_no_failure(helper: Helper) -> None:
    """If a helper has no login for the host, requests to the upstream are anonymous."""
    command = helper("echo 'credentials not found in native keychain'; exit 1")

    assert ask(command, _HOST) is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'no network'; exit 3", "the program ended with 3: no network"),
        ("exit 1", "the program ended with 1: no message"),
        ("echo nothing", "the program's output is not a JSON object"),
        ("echo '[]'", "the program's output is not a JSON object"),
        ("head -c 9999 /dev/zero | tr '\\0' '['", "the program's output is not a JSON object"),
        ('echo \'{"Username": "a"}\'', "the program's output has no Username and Secret"),
        ("head -c 70000 /dev/zero", "the program's output is longer than 65536 bytes"),
    ],
)
def test_a_program_that_fails_gives_a_reason(helper: Helper, script: str, reason: str) -> None:
    """If a helper fails, the error states the reason in one line."""
    with pytest.raises(HelperFailed, match=reason):
        ask(helper(script), _HOST)


@pytest.mark.parametrize(
    "script", ["sleep 60", "exec >&-; sleep 60", "yes | tr y ' ' | head -c 9; cat"]
)
def test_a_program_that_hangs_is_killed_with_its_children(helper: Helper, script: str) -> None:
    """A helper that hangs is killed together with its children, even if it closed its output."""
    command = helper(f"sleep 60 & echo $! > $0.child; {script}")

    with pytest.raises(HelperFailed, match="the program did not end in time"):
        ask(command, _HOST, timeout=0.3)

    child = int(Path(f"{command}.child").read_text())
    assert poll(lambda: True if _is_dead(child) else None, within=10, every=0.01)


def test_a_missing_program_is_a_failure() -> None:
    """If the helper's file is missing, the error states that there is no such program."""
    with pytest.raises(HelperFailed, match="no such program"):
        ask("/none/docker-credential-test", _HOST)


@pytest.mark.parametrize(
    ("lifetime", "runs"), [(None, [1, 1, 1]), (60.0, [1, 1, 2]), (0.0, [1, 2, 3])]
)
def test_a_login_is_used_for_its_lifetime(
    helper: Helper, tmp_path: Path, clock: Clock, lifetime: float | None, runs: list[int]
) -> None:
    """A helper's login is used for the configured lifetime; with 0 s it is used only once."""
    credentials = HelperCredentials(helper(f"echo '{_LOGIN}'"), _HOST, lifetime, clock)
    seen = []
    for _ in range(3):
        assert credentials.find("a") == Credential("robot", "secret")
        seen.append(_runs(tmp_path))
        clock.now += 31

    assert seen == runs


def test_a_failed_program_runs_again_after_a_pause(
    helper: Helper, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """If a helper fails, it is restarted after a pause, during which requests are anonymous."""
    credentials = HelperCredentials(helper("exit 1"), _HOST, 0.0, clock)
    found = [credentials.find("a") for _ in range(3)]
    clock.now += 11
    helper(f"echo '{_LOGIN}'")
    found.append(credentials.find("a"))

    assert found == [None, None, None, Credential("robot", "secret")]
    assert _runs(tmp_path) == 2
    assert [each.message for each in caplog.records] == ["credential helper failed"]
    assert "secret" not in caplog.text


def test_a_program_that_hangs_holds_requests_for_a_bounded_time(
    helper: Helper,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If a helper hangs, the first request waits for a bounded time; later requests do not wait."""
    monkeypatch.setattr(credential_helper, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(credential_helper, "_IMPATIENCE_S", 0.0)
    credentials = HelperCredentials(
        helper(f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo '{_LOGIN}'"), _HOST, None
    )
    found = [credentials.find("a") for _ in range(3)]
    (tmp_path / "go").touch()
    login = poll(lambda: credentials.find("a"), within=20, every=0.01)

    assert found == [None, None, None]
    assert login == Credential("robot", "secret")
    assert _runs(tmp_path) == 1
    assert [each.message for each in caplog.records] == ["credential helper does not exit"]


def test_a_program_that_hangs_leaves_its_previous_login_in_use(
    helper: Helper, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a helper hangs, workers continue to use its previous login."""
    credentials = HelperCredentials(helper(f"echo '{_LOGIN}'"), _HOST, 60.0, clock)
    first = credentials.find("a")
    monkeypatch.setattr(credential_helper, "_IMPATIENCE_S", 0.0)
    credentials._patience = 0.0
    helper(f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done")
    clock.now += 61
    later = credentials.find("a")
    (tmp_path / "go").touch()

    assert first == later == Credential("robot", "secret")


def test_a_program_that_ends_soon_again_is_waited_for_again(helper: Helper, clock: Clock) -> None:
    """After a helper that hung has responded in time, requests wait for the helper again."""
    credentials = HelperCredentials(helper(f"echo '{_LOGIN}'"), _HOST, 0.0, clock)
    credentials._patience = 0.0

    def waits_again() -> bool | None:
        credentials.find("a")
        return credentials._patience == credential_helper._PATIENCE_S or None

    assert poll(waits_again, within=20, every=0.01)
    assert credentials.find("a") == Credential("robot", "secret")


def test_the_host_is_that_of_the_url_and_the_helper_precedes_a_password(
    helper: Helper, tmp_path: Path
) -> None:
    """A helper receives the host from the upstream's URL.

    The helper's login has precedence over a configured password.
    """
    config = UpstreamConfig(
        "docker.io",
        "https://registry-1.docker.io",
        username="ann",
        password="other",
        helper=helper(f"cat > {tmp_path}/seen; echo '{_LOGIN}'"),
    )

    found = credentials_for(config, lambda: None).find("library/alpine")

    assert found == Credential("robot", "secret")
    assert (tmp_path / "seen").read_text() == "registry-1.docker.io"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root owns a program that it alone can change")
def test_root_runs_no_program_that_others_can_change(tmp_path: Path) -> None:
    """As root, the appliance starts no helper that another user can change.

    Otherwise that user could run commands as root.
    """
    program = Path("/usr/bin/true")
    assert credential_helper._only_root_changes(program)
    for mode, owner in ((0o777, 0), (0o755, 12345)):
        copy = tmp_path / f"{mode}-{owner}"
        copy.write_text("#!/bin/sh\n")
        copy.chmod(mode)
        os.chown(copy, owner, owner)

        assert not credential_helper._only_root_changes(copy)


def test_no_worker_loads_the_helper_unless_it_is_configured() -> None:
    """Without `proxy.exec` a worker does not import the module that starts programs."""
    assert "entrepot.registry.upstream.credential_helper" not in worker_modules()
