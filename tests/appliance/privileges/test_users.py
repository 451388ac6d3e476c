"""Who serves, and that he who gives root up has given it up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from entrepot.appliance.privileges import users
from entrepot.appliance.privileges.users import Choice
from tests.appliance.front import ROOT

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

IMAGE = {"ENTREPOT_IMAGE": "1"}
BECOMES = """
import os
from entrepot.appliance.privileges.users import User, become
become(User("somebody", 12345, 23456, "/"))
print(os.getresuid(), os.getresgid(), os.getgroups())
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(status["CapEff"].strip(), status["CapPrm"].strip(), status["NoNewPrivs"].strip())
"""


def test_outside_the_image_everybody_stays_who_he_is() -> None:
    """There a user of that name is none of ours, and `make run` must not give ./data away."""
    assert users.choose({}) == Choice(None)


def test_who_is_not_root_stays_who_he_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--user`, `runAsUser` and OpenShift have chosen; that user need not have a name."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234567)

    assert users.choose(IMAGE) == Choice(None)


def test_root_without_such_a_user_serves_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is told why, for it is to be a warning."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(users, "missing", lambda _: ())
    monkeypatch.setattr(users, "NAME", "nobody-of-this-name")

    assert users.choose(IMAGE) == Choice(None, ("user nobody-of-this-name",))


def test_root_that_may_not_become_another_serves_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--cap-drop=ALL` without `--user`: better root without rights than no appliance."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(users, "missing", lambda _: ("CAP_SETUID",))
    monkeypatch.setattr(users, "NAME", "root")

    assert users.choose(IMAGE) == Choice(None, ("CAP_SETUID",))


def test_root_becomes_the_user_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is the image's default."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(users, "missing", lambda _: ())
    monkeypatch.setattr(users, "NAME", "daemon")  # every Unix has one

    user = users.choose(IMAGE).user

    assert user is not None
    assert user.uid != 0


@pytest.mark.parametrize(
    ("status", "lacking"),
    [
        # what podman gives a container's root
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
def test_what_root_lacks_is_named(status: str, lacking: tuple[str, ...]) -> None:
    """An operator who drops capabilities wants to know which one was too many."""
    assert users.missing(status) == lacking


@as_root
def test_who_becomes_another_has_nothing_left_of_root() -> None:
    """Neither ids nor groups nor capabilities, and nothing that it starts can get them back."""
    done = subprocess.run(
        [sys.executable, "-c", BECOMES], cwd=ROOT, capture_output=True, text=True, check=True
    )

    ids, rights = done.stdout.splitlines()
    assert ids == "(12345, 12345, 12345) (23456, 23456, 23456) []"
    assert rights == "0000000000000000 0000000000000000 1"


def test_an_unknown_name_is_nobody() -> None:
    """And no error: it is another system's."""
    assert users.account("nobody-of-this-name") is None
    root = users.account("root")
    assert root is not None
    assert (root.uid, root.gid) == (0, 0)
