"""Counts the constructions that docs/style.md rules out in comments, docstrings and Markdown.

python -m tests.language [PATH...]     prints the counts of each file, and the rates in all files
python -m tests.language --lines PATH  prints the lines that have one of these constructions
"""

from __future__ import annotations

import ast
import os
import re
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LIMITS = {
    "what is": 1.0,
    "nobody": 0.5,
    "whoever": 0.5,
    "tell": 0.5,
    "say": 1.5,
    "he": 0.5,
    ", for": 0.5,
}
"""The largest permitted number of each construction in 1,000 words of the repository."""

_VERBS = (
    "is|isn't|was|wasn't|are|were|has|had|have|can|can't|may|must|would|will|came|comes|come"
    "|goes|went|does|did|stays|stayed|fails|failed|stands|stood|became|becomes|needs|lies|lay"
)
_PATTERNS = {
    "what is": rf"\bwhat (?:{_VERBS})\b(?!(?:[^.?]*)\?)",
    "nobody": r"\b(?:nobody|somebody|anybody|everybody)\b",
    "whoever": (
        rf"\bwhoever\b|(?:^|[.:;(,] |\b(?:and|that|or|if|of|to|by) )"
        rf"who (?:{_VERBS}|\w+s|\w+ed)\b"
    ),
    "tell": r"\b(?:tell|tells|telling|told)\b",
    "say": r"\b(?:say|says|saying|said)\b",
    "he": r"\b(?:he|him|his)\b",
    ", for": (
        r", for (?:\w+ ){1,4}?"
        r"(?:is|are|was|were|may|can|must|has|have|would|will|does|do|goes)\b"
    ),
}
_COMPILED = {
    name: re.compile(text, re.IGNORECASE | re.MULTILINE) for name, text in _PATTERNS.items()
}
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_COMMENTED = {".cfg", ".conf", ".yml", ".yaml", ".sh", ".toml", ".container", ".tpl"}


def prose(path: Path) -> str:
    """Return the comments and docstrings of a file, or a Markdown page without its code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return _CODE.sub("X", FENCE.sub("", text))
    if path.suffix == ".py":
        return _CODE.sub("X", prose_of_module(text))
    return _CODE.sub("X", "\n".join(_hashed(text)))


def prose_of_module(text: str) -> str:
    """Return the docstrings and comments of a Python module."""
    tree = ast.parse(text)
    return "\n\n".join(found for _, found in (*docstrings(tree), *comments(text, tree)))


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each docstring, and of each string that documents a constant."""
    for node in _statements(tree.body):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            value = node.value.value
            if isinstance(value, str):
                yield node.lineno, value


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield all statements in *body* and below, without the expressions in them."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            below = getattr(node, part, ())
            if isinstance(below, list):
                yield from _statements(below)


def comments(text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each comment of a Python file.

    Comments on consecutive lines are one text. A comment after code is a text of its own.
    """
    block, last, first = list[str](), -1, 0
    lines = text.splitlines()
    marked = {number for number, line in enumerate(lines, 1) if "#" in line}
    strings = _strings(tree, marked) if marked else {}
    for number in sorted(marked):
        line = lines[number - 1].encode()  # Python's syntax tree gives columns in bytes
        for start, end in strings.get(number, ()):
            line = line[:start] + b"_" * (min(end, len(line)) - start) + line[end:]
        code, mark, comment = line.partition(b"#")
        if mark:
            if block and (number != last + 1 or code.strip()):
                yield first, "\n".join(block)
                block = []
            first = first if block else number
            block.append(comment.decode().lstrip("#: "))
            last = -1 if code.strip() else number
    yield first, "\n".join(block)


def _strings(tree: ast.Module, lines: set[int]) -> dict[int, list[tuple[int, int]]]:
    """Return, for each line number in *lines*, the ranges of bytes that belong to strings."""
    found: dict[int, list[tuple[int, int]]] = {}
    ordered = sorted(lines)
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if not _may_reach(node, ordered):
            continue
        todo.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Constant | ast.JoinedStr):
            first, last = node.lineno, node.end_lineno or node.lineno
            for number in lines.intersection(range(first, last + 1)):
                start = node.col_offset if number == first else 0
                end = node.end_col_offset if number == last else None
                found.setdefault(number, []).append((start, 10**6 if end is None else end))
    return found


def _may_reach(node: ast.AST, lines: list[int]) -> bool:
    """Return False if none of the sorted *lines* is in *node*; then *node* need not be searched."""
    last = getattr(node, "end_lineno", None)
    if last is None:
        return True
    first = min(each.lineno for each in (node, *getattr(node, "decorator_list", ())))
    at = bisect_left(lines, first)
    return at < len(lines) and lines[at] <= last


def _hashed(text: str) -> Iterator[str]:
    """Yield the comments of a file in which # or ; begins a comment."""
    for line in text.splitlines():
        found = re.search(r"(?:^|\s)[#;]+ (.*)", line)
        if found:
            yield found[1]


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the files in and below *paths* whose prose is counted."""
    for path in paths:
        for each in sorted(_inside(path)) if path.is_dir() else [path]:
            known = each.suffix in {".py", ".md"} | _COMMENTED
            if each.is_file() and not each.is_symlink() and (known or each.name == "Makefile"):
                yield each


def _inside(folder: Path) -> Iterator[Path]:
    """Yield the files below *folder* that belong to the repository, not to git or a build."""
    for here, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if each[0] != "." and each not in {"build", "dist"}]
        yield from (Path(here, name) for name in names if name[0] != ".")


def count(text: str) -> dict[str, int]:
    """Return how often *text* has each construction."""
    return {name: len(pattern.findall(text)) for name, pattern in _COMPILED.items()}


def words(text: str) -> int:
    """Return the number of words in *text*."""
    return len(re.findall(r"[A-Za-z][A-Za-z'-]*", text))


def rates(paths: Iterable[Path]) -> dict[str, float]:
    """Return how often each construction occurs in 1,000 words of all files below *paths*."""
    total, of = dict.fromkeys(_COMPILED, 0), 0
    for path in files(paths):
        text = prose(path)
        of += words(text)
        for name, number in count(text).items():
            total[name] += number
    return {name: 1000 * number / max(of, 1) for name, number in total.items()}


def _main(arguments: list[str]) -> None:
    lines = arguments[:1] == ["--lines"]
    paths = [Path(each).resolve() for each in arguments[lines:]] or [ROOT]
    for path in files(paths):
        text = prose(path)
        found = count(text)
        if lines:
            for name, pattern in _COMPILED.items():
                for each in pattern.finditer(text):
                    around = text[max(0, each.start() - 60) : each.end() + 50].replace("\n", " ")
                    sys.stdout.write(f"{path.name}: {name}: {around}\n")
        elif sum(found.values()):
            sys.stdout.write(f"{sum(found.values()):5} {path} {found}\n")
    for name, rate in rates(paths).items():
        sys.stdout.write(f"{name:8} {rate:5.2f} (limit {LIMITS[name]})\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
