"""Test the choice of the service user, and that a process loses root's rights for good."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from entrepot.appliance.privileges import users
from entrepot.appliance.privileges.users import Choice
from entrepot.config.errors import ConfigError
from tests.appliance.haproxy import ROOT

pytestmark = pytest.mark.slow

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")

IMAGE = {"ENTREPOT_IMAGE": "1"}
BECOMES = """
import os
from entrepot.appliance.privileges.users import User, become
become(User("somebody", 12345, 23456, "/"))
print(os.getresuid(), os.getresgid(), os.getgroups())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["CapEff"].strip(), status["CapPrm"].strip(), status["NoNewPrivs"].strip())
"""


def test_outside_the_image_the_user_does_not_change() -> None:
    """Outside the image the user does not change.

    There, a user named `entrepot` may be unrelated to Entrepot, and must not become the owner of
    ./data by `make run`.
    """
    assert users.choose({}) == Choice(None)


def test_a_user_other_than_root_does_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The appliance keeps a user other than root, which `--user`, `runAsUser` or OpenShift chose.

    A user other than root need not have a name.
    """
    monkeypatch.setattr(os, "geteuid", lambda: 1234567)

    assert users.choose(IMAGE) == Choice(None)


def test_without_the_service_user_root_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the service user is missing, root serves, and the reason is returned for a warning."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(users, "missing", lambda _: ())
    monkeypatch.setattr(users, "NAME", "nobody-of-this-name")

    assert users.choose(IMAGE) == Choice(None, ("user nobody-of-this-name",))


def test_without_the_needed_capabilities_root_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--cap-drop=ALL` and no `--user`, the appliance serves as root without capabilities."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(users, "missing", lambda _: ("CAP_SETUID",))
    monkeypatch.setattr(users, "NAME", "root")

    assert users.choose(IMAGE) == Choice(None, ("CAP_SETUID",))


def test_root_chooses_the_service_user_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root changes to the image's service user if the operator names no other user."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(users, "missing", lambda _: ())
    monkeypatch.setattr(users, "NAME", "daemon")  # each Unix has a user of this name

    user = users.choose(IMAGE).user

    assert user is not None
    assert user.uid != 0


@pytest.mark.parametrize(
    ("status", "lacking"),
    [
        # the capabilities that podman gives to root in a container
        ("Name:\tx\nCapEff:\t00000000800405fb\nCapBnd:\t00000000800405fb\n", ()),
        ("CapEff:\t000001ffffffffff\n", ()),
        ("CapEff:\t00000000800405fa\n", ("CAP_CHOWN",)),
        ("CapEff:\t000000000000001b\n", ("CAP_KILL", "CAP_SETGID", "CAP_SETUID")),
        (
            "CapBnd:\t00000000800405fb\n",
            ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"),
        ),
    ],
    ids=["podman's", "all", "no chown", "some", "unknown"],
)
def test_missing_capabilities_are_named(status: str, lacking: tuple[str, ...]) -> None:
    """A start as root names each missing capability, so that the operator can grant it."""
    assert users.missing(status) == lacking


@as_root
def test_a_process_that_changed_its_user_has_no_rights_of_root() -> None:
    """A process that changed from root to another user has no ids, groups or capabilities of root.

    Neither the process nor its children can get root's rights back.
    """
    done = subprocess.run(
        [sys.executable, "-c", BECOMES], cwd=ROOT, capture_output=True, text=True, check=True
    )

    ids, rights = done.stdout.splitlines()
    assert ids == "(12345, 12345, 12345) (23456, 23456, 23456) []"
    assert rights == "0000000000000000 0000000000000000 1"


def test_an_unknown_user_is_none() -> None:
    """`account` returns None for an unknown user; outside the image the service user is unknown."""
    assert users.account("nobody-of-this-name") is None
    root = users.account("root")
    assert root is not None
    assert (root.uid, root.gid) == (0, 0)


@pytest.mark.parametrize("missing", ["interpreter", "library", "program"])
def test_a_command_states_that_the_service_user_cannot_read_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    """A command as root reports a file of the program that the service user cannot read.

    The file is the interpreter, a standard library module, or a module of Entrepot. For example, an
    interpreter below /root would otherwise fail later, with a traceback.
    """
    hidden = str(tmp_path / "hidden")
    target = {"interpreter": (sys, "executable"), "library": (os, "__file__")}
    monkeypatch.setattr(*target.get(missing, (users, "__file__")), hidden)
    user = users.User("entrepot", 65532, 65532, "/")
    monkeypatch.setattr(users, "choose", lambda _: users.Choice(user))
    monkeypatch.setattr(users, "become", lambda _: None)
    with pytest.raises(ConfigError) as raised:
        users.step_down({})

    assert [each.source for each in raised.value.problems] == [hidden]
    assert "where user entrepot can read them" in str(raised.value)


def test_a_command_continues_if_the_service_user_can_read_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command as root continues if the service user can read the interpreter, as in the image."""
    became: list[users.User] = []
    user = users.User("entrepot", 65532, 65532, "/")
    monkeypatch.setattr(users, "choose", lambda _: users.Choice(user))
    monkeypatch.setattr(users, "become", became.append)
    users.step_down({})

    assert became == [user]
