"""What a process tree costs, read off /proc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.tree import (
    Memory,
    Process,
    Tree,
    below,
    parse_memory,
    parse_stat,
    role_of,
    spent,
    total,
)

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def test_a_process_costs_what_it_and_its_reaped_children_computed() -> None:
    """A child that has ended must not take its CPU time out of the account."""
    text = "71 (a (b) c) S 12 71 71 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 99 1 1\n"

    assert parse_stat(text) == Process(71, 12, "a (b) c", 100 * _TICK)


def test_a_tree_is_a_process_and_all_that_descend_from_it() -> None:
    """Others on the machine cost nothing here."""
    processes = [
        Process(1, 0, "init", 9),
        Process(2, 1, "ours", 1),
        Process(3, 2, "child", 1),
        Process(4, 3, "grandchild", 1),
        Process(5, 1, "stranger", 9),
    ]

    assert {each.pid for each in below(2, processes)} == {2, 3, 4}


def test_a_tree_whose_root_is_gone_is_empty() -> None:
    """A server that died costs nothing more, and is no error."""
    assert below(7, [Process(1, 0, "init", 9)]) == []


@pytest.mark.parametrize(
    ("words", "role"),
    [
        (["python", "-m", "entrepot.registry"], "registry"),
        (["python", "-m", "supervisor.supervisord", "-c", "x"], "supervisor"),
        (
            [
                "python",
                "-m",
                "entrepot.appliance.supervise.parent_death_signal",
                "python",
                "-m",
                "entrepot.logger",
            ],
            "logger",
        ),
        (["haproxy", "-db", "-f", "haproxy.cfg"], "haproxy"),
        ([""], "haproxy"),
    ],
    ids=["module", "submodule", "wrapped", "program", "no words"],
)
def test_a_process_is_named_by_what_it_does(words: list[str], role: str) -> None:
    """`python` says nothing; the module that it runs does."""
    assert role_of("haproxy", words) == role


def test_memory_is_counted_in_bytes() -> None:
    """The kernel says kB and means 1,024 bytes."""
    text = "55d0-7fff ---p 0 00:00 0 [rollup]\nRss:    120 kB\nPss:     40 kB\nPss_Anon: 1 kB\n"

    assert parse_memory(text) == Memory(rss=120 * 1024, pss=40 * 1024)


def test_a_process_that_has_ended_takes_no_memory() -> None:
    """Between the list and the look it may go."""
    assert parse_memory("") == Memory()


def test_memory_adds_up_over_roles() -> None:
    """A tree's memory is that of all its processes."""
    memory = {"haproxy": [Memory(3, 1)], "registry": [Memory(5, 2), Memory(7, 4)]}

    assert total(memory) == Memory(15, 7)


def test_what_began_later_is_spent_from_nought() -> None:
    """A worker that is started in between counts with all that it has done."""
    assert spent({"a": 1.0}, {"a": 1.5, "b": 0.25}) == {"a": 0.5, "b": 0.25}


def test_a_child_that_computes_and_ends_is_in_the_account() -> None:
    """The real /proc, a real child."""
    tree = Tree(os.getpid())
    before = sum(tree.cpu().values())
    subprocess.run([sys.executable, "-c", "sum(range(6_000_000))"], check=True)

    assert sum(tree.cpu().values()) - before >= 3 * _TICK
