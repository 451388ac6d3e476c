"""Runs the tests against mutants of modules, and lists the mutants that no test finds.

python -m tests.mutation [--seed N] [--most N] [--tests PATH]... MODULE...

A MODULE is a file or a folder, such as registry/download. A mutant is a copy of a module with one
small fault (tests/mutants.py): --seed chooses the faults, and --most limits the mutants of each
file. Each mutant runs in a copy of the project, with only the unit tests that run the changed
lines. The option --tests names the tests to use. The default is all tests in tests/FOLDER, where
FOLDER is the module's top folder. The exit code is 0 even if mutants survive, because a person must
decide whether a survivor shows a missing test or behaves like the original.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parent.parent
_FIRST_TESTS = 8
_MOST_TESTS = 200
_TEST_S = 30
_MUTANT_S = 180
_ALL_TESTS_S = 1200

Lines = dict[str, dict[str, set[int]]]
"""The numbers of the lines that each test runs in each module, by module and test."""


class Copy:
    """A copy of the project, in which one module at a time is replaced by a mutant."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "project"
        self._bytecode = folder / "bytecode"
        self._arguments = folder / "tests"
        shutil.copytree(ROOT, self._root, symlinks=True, ignore=shutil.ignore_patterns(".*"))

    def source(self, module: str) -> str:
        """Return the original source of a module, without a fault."""
        return (self._root / module).read_text()

    def trace(self, modules: Sequence[str], tests: Sequence[str]) -> Lines:
        """Run the tests without a mutant; return the lines of *modules* that each test runs."""
        found = self._root.with_name("trace.json")
        environment = {"MODULES": ":".join(modules), "TRACE": str(found)}
        self._pytest(tests, ["-p", "tests.traced"], _ALL_TESTS_S, environment)
        passed = json.loads(found.read_text())
        if self._pytest(list(passed), ["--collect-only"], _ALL_TESTS_S, {}):
            raise SystemExit("pytest does not find the tests again by their names")
        lines: Lines = {each: {} for each in modules}
        for test, executed in passed.items():
            for module, numbers in executed.items():
                lines[module][test] = set(numbers)
        return lines

    def outcome(self, module: str, mutant: Mutant, tests: Sequence[str]) -> str:
        """Run the tests with a mutant; return `killed`, or the reason why it was not killed."""
        if not tests:
            return "survived: no test executes it"
        path = self._root / module
        original = self.source(module)
        for stale in self._bytecode.rglob(f"{path.stem}.*.pyc"):
            stale.unlink()
        path.write_text(mutant.source)
        try:
            # the tests that run the fewest lines come first: they are fast, and find most mutants
            parts = [part for part in (tests[:_FIRST_TESTS], tests[_FIRST_TESTS:]) if part]
            is_killed = any(self._pytest(part, ["-x"], _MUTANT_S, {}) for part in parts)
        except subprocess.TimeoutExpired:
            return f"ran out of time: {len(tests)} tests"
        finally:
            path.write_text(original)
        return "killed" if is_killed else f"survived: {len(tests)} tests"

    def _pytest(
        self, tests: Sequence[str], options: Sequence[str], seconds: float, more: dict[str, str]
    ) -> int:
        self._arguments.write_text("\n".join(tests))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
        command += ["-m", "not system and not soak", f"--timeout={_TEST_S}", *options]
        environment = {
            **os.environ,
            **more,
            "PYTHONPATH": str(self._root),
            "PYTHONPYCACHEPREFIX": str(self._bytecode),
        }
        done = subprocess.run(
            [*command, f"@{self._arguments}"],
            cwd=self._root,
            env=environment,
            timeout=seconds,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode


def _files(named: Iterable[str]) -> Iterator[str]:
    for each in named:
        path = ROOT / each
        found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        yield from (str(one.relative_to(ROOT)) for one in found if one.name != "__init__.py")


def _tests_of(mutant: Mutant, executed: dict[str, set[int]]) -> list[str]:
    """Return at most `_MOST_TESTS` tests that run the changed lines.

    The tests that run the fewest lines come first.
    """
    found = [t for t, lines in executed.items() if not mutant.used or lines & mutant.used]
    return sorted(found, key=lambda test: len(executed[test]))[:_MOST_TESTS]


def main(argv: Sequence[str]) -> int:
    """Run the mutants; print a line for each, and then the number of survivors."""
    parser = argparse.ArgumentParser(prog="tests.mutation", description="run tests with mutants")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=8, help="mutants for each file")
    parser.add_argument("--tests", action="append", metavar="PATH")
    parser.add_argument("module", nargs="+")
    chosen = parser.parse_args(argv)
    modules = list(_files(chosen.module))
    tests = chosen.tests or sorted({f"tests/{each.partition('/')[0]}" for each in modules})
    total = survived = 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Copy(Path(folder))
        executed = copy.trace(modules, tests)
        for module in modules:
            for mutant in mutants(copy.source(module), chosen.most, f"{chosen.seed} {module}"):
                outcome = copy.outcome(module, mutant, _tests_of(mutant, executed[module]))
                total, survived = total + 1, survived + (outcome != "killed")
                line = f"{module}:{mutant.first}: {mutant.operator}: {mutant.before}: {outcome}"
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{total} mutants, {survived} not killed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
