"""`Tree` reads the CPU time and the memory of a process tree from /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from bench.tree import (
    Memory,
    Process,
    Tree,
    below,
    parse_memory,
    parse_schedstat,
    parse_stat,
    role_of,
    spent,
    total,
)

_TICK = 1 / os.sysconf("SC_CLK_TCK")


def test_the_cpu_time_of_a_process_includes_its_reaped_children() -> None:
    """The CPU time of a process includes that of children that ended and were reaped."""
    text = "71 (a (b) c) S 12 71 71 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 99 1 1\n"

    assert parse_stat(text) == Process(71, 12, "a (b) c", 100 * _TICK)


def test_a_tree_is_a_process_and_its_descendants() -> None:
    """A tree is a process and its descendants, without other processes of the machine."""
    processes = [
        Process(1, 0, "init", 9),
        Process(2, 1, "ours", 1),
        Process(3, 2, "child", 1),
        Process(4, 3, "grandchild", 1),
        Process(5, 1, "stranger", 9),
    ]

    assert {each.pid for each in below(2, processes)} == {2, 3, 4}


def test_a_tree_without_its_root_is_empty() -> None:
    """If the root of a tree has ended, the tree is empty."""
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
        (
            ["python", "-m", "entrepot.appliance.supervise.supervisord", "-c", "supervisord.conf"],
            "supervisord",
        ),
        (["haproxy", "-db", "-f", "haproxy.cfg"], "haproxy"),
        ([""], "haproxy"),
    ],
    ids=["module", "submodule", "wrapped", "supervisord", "program", "no words"],
)
def test_the_role_of_a_process_is_its_module_or_program(words: list[str], role: str) -> None:
    """The role of a process is its Python module, or its program if it is not a Python process."""
    assert role_of("haproxy", words) == role


def test_memory_is_counted_in_bytes() -> None:
    """The memory of a process is counted in bytes: the kernel's unit kB has 1,024 bytes."""
    text = "55d0-7fff ---p 0 00:00 0 [rollup]\nRss:    120 kB\nPss:     40 kB\nPss_Anon: 1 kB\n"

    assert parse_memory(text) == Memory(rss=120 * 1024, pss=40 * 1024)


def test_a_process_that_has_ended_has_no_memory() -> None:
    """If a process ends after it was listed and before its memory is read, its memory is 0."""
    assert parse_memory("") == Memory()


def test_memory_is_summed_over_roles() -> None:
    """The memory of a tree is the sum over all its processes."""
    memory = {"haproxy": [Memory(3, 1)], "registry": [Memory(5, 2), Memory(7, 4)]}

    assert total(memory) == Memory(15, 7)


def test_the_cpu_time_of_a_new_process_counts_from_zero() -> None:
    """If a process has started between two measurements, all of its CPU time counts."""
    assert spent({"a": 1.0}, {"a": 1.5, "b": 0.25}) == {"a": 0.5, "b": 0.25}


def test_the_cpu_time_of_a_child_that_ended_counts() -> None:
    """The CPU time of a child that has ended still counts; this test reads the real /proc."""
    tree = Tree(os.getpid())
    before = sum(tree.cpu().values())
    subprocess.run([sys.executable, "-c", "sum(range(6_000_000))"], check=True)

    assert sum(tree.cpu().values()) - before >= 3 * _TICK


def test_the_run_time_includes_all_threads_to_less_than_a_tick() -> None:
    """The run time includes all threads, and is more precise than the kernel's clock ticks.

    This precision is needed because an idle server runs for less than a tick at a time.
    """
    tree = Tree(os.getpid())
    before = sum(tree.run_time().values())
    done, ended = threading.Event(), threading.Event()

    def work() -> None:
        sum(range(100_000))
        done.set()
        ended.wait()

    thread = threading.Thread(target=work)
    thread.start()
    done.wait()
    after = sum(tree.run_time().values())
    ended.set()
    thread.join()

    assert after > before


def test_a_thread_that_has_ended_has_no_run_time() -> None:
    """A run time is parsed in nanoseconds; a thread that has ended has a run time of 0."""
    assert [parse_schedstat(text) for text in ("1500000 7 9\n", "")] == [0.0015, 0.0]
