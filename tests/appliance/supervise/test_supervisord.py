"""Test `load`, which loads the programs that supervisord forks instead of executing."""

from __future__ import annotations

import configparser
import shlex
import subprocess
import sys

import pytest

from entrepot.appliance.supervise.supervisord import PROGRAMS, program_of
from tests.appliance.haproxy import ROOT

pytestmark = pytest.mark.slow

LOAD = """
import sys, threading
from entrepot.appliance.supervise.supervisord import PROGRAMS, load
"""


def load(statements: str) -> None:
    """Run *statements* in a new process, because they load all programs."""
    subprocess.run([sys.executable, "-c", LOAD + statements], cwd=ROOT, check=True)


def test_all_programs_can_be_loaded_before_they_are_forked() -> None:
    """Loading the programs' modules starts no thread: a process with threads must not fork."""
    load("assert set(load()) == set(PROGRAMS)")


def test_a_program_that_cannot_be_loaded_is_left_out() -> None:
    """`load` omits a program whose module cannot be loaded; supervisord executes this program.

    A call of `sys.exit` in a module ends only the load of that module.
    """
    load("""
import pathlib, tempfile
folder = tempfile.mkdtemp()
pathlib.Path(folder, "exits.py").write_text("raise SystemExit(3)")
sys.path.append(folder)
programs = {"missing": "no_such_module", "exits": "exits", "good": "json.tool"}
assert set(load(programs)) == {"good"}
""")


def test_nothing_is_forked_if_loading_starts_a_thread() -> None:
    """No program is forked if loading starts a thread: a fork could inherit locks of the thread."""
    load("""
threading.Thread(target=threading.Event().wait, daemon=True).start()
assert load({"good": "json.tool"}) == {}
""")


def commands() -> list[list[str]]:
    """Return the words of each command in supervisord.conf, with this Python's path."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read(ROOT / "supervisord.conf")
    texts = [section["command"] for section in parser.values() if "command" in section]
    return [shlex.split(each.replace("%(ENV_ENTREPOT_PYTHON)s", sys.executable)) for each in texts]


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_supervisord_conf_has_the_command_of_each_program(name: str) -> None:
    """`program_of` recognises the command of each program in supervisord.conf."""
    assert name in [program_of(each)[2] for each in commands()]
