"""Draws random sentences from comments, docstrings, messages and Markdown, for a reader to judge.

python -m tests.sentences [COUNT [SEED]]

A draw shows whether a reader who does not know the code understands its prose at first reading.
COUNT is 60 by default. SEED is the hash of the current commit by default, so that the author of a
commit cannot choose the sentences, and anyone can repeat the draw.
"""

from __future__ import annotations

import ast
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.language import FENCE, ROOT, comments, docstrings, files

_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*\"'(0-9])|\n[ \t]*(?:\n|\Z)|\n(?=\s*[-*] )")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|No)\.$")
_CODE = re.compile(r"`[^`]*`|\{[^}]*\}|\[[^]]*\]\([^)]*\)|\S*[/_=@]\S*")
_NO_SENTENCE = re.compile(r"^(?:type:|noqa|pragma|----).*", re.MULTILINE)
"""Matches comment lines that are directives for tools, or headings of sections."""
_SHORTEST = 4
"""The smallest number of words outside code; a text with fewer words is not a sentence."""

_NOT_PROSE = re.compile(
    r"^\W*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|WITH|PRAGMA)\b| IS NOT |^\w+\[\w+\["
    r"|[<>^|\\=]{2}|\\[a-z]"
)
"""Matches strings with SQL, types or regular expressions, which are not prose."""


def sentences(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, kind, sentence) of each sentence in a file.

    The kind is "docstring", "comment", "message" or "page".
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        blank = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
        yield from _paragraphs(blank)
        return
    if path.suffix == ".py":
        tree = ast.parse(text)
        yield from _strings(path, tree)
        for line, comment in comments(text, tree):
            yield from _split(line, "comment", _NO_SENTENCE.sub("", comment))
    else:
        yield from _hashed(text)


def draw(count: int, seed: str) -> list[tuple[str, int, str, str]]:
    """Return (path, line, kind, sentence) of *count* sentences of the repository, in random order.

    The same tree and *seed* return the same sentences.
    """
    return random.Random(seed).sample(every_sentence(), count)


@cache
def every_sentence() -> list[tuple[str, int, str, str]]:
    """Return (path, line, kind, sentence) of each sentence of the repository."""
    return [
        (str(path.relative_to(ROOT)), *sentence)
        for path in files([ROOT])
        for sentence in sentences(path)
    ]


def _split(line: int, kind: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the sentences of *text*, which starts at *line*."""
    at = 0
    for end in [*_END.finditer(text), None]:
        stop = end.start() if end else len(text)
        if end and _ABBREVIATION.search(text[:stop]):
            continue
        sentence = " ".join(text[at:stop].split())
        if len(re.findall(r"[A-Za-z]{2,}", _CODE.sub(" ", sentence))) >= _SHORTEST:
            begun = at + len(text[at:stop]) - len(text[at:stop].lstrip())
            yield line + text.count("\n", 0, begun), kind, sentence
        at = end.end() if end else stop


def _strings(path: Path, tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yield the sentences of docstrings and, outside of tests/, of all other strings."""
    documented = dict(docstrings(tree))
    for line, docstring in documented.items():
        yield from _split(line, "docstring", docstring)
    if "tests" in path.relative_to(ROOT).parts:
        return
    for line, text in _messages(tree):
        is_prose = len(text.split()) >= _SHORTEST and not _NOT_PROSE.search(text)
        if line not in documented and is_prose:
            yield from _split(line, "message", text)


def _messages(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each string in *node*; f-strings contain their `{expressions}`."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.JoinedStr):
            yield each.lineno, ast.unparse(each)[2:-1]
        elif not isinstance(each, ast.Constant):
            yield from _messages(each)
        elif isinstance(each.value, str):
            yield each.lineno, each.value


def _hashed(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the sentences of comments that begin with # or ; (adjacent lines are one text)."""
    block, first = list[str](), 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        whole = re.match(r"\s*[#;]+ (?!----|====)(.*)", line)
        if block and not whole:
            yield from _split(first, "comment", "\n".join(block))
            block = []
        if whole:
            first = first if block else number
            block.append(whole[1])
        elif behind := re.match(r".*\S\s+# (.*)", line):
            yield from _split(number, "comment", behind[1])


def _paragraphs(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the sentences of a Markdown page; each cell of a table is a separate text."""
    block, first = list[str](), 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.lstrip().startswith(("|", "#")) or not line.strip():
            if block:
                yield from _split(first, "page", "\n".join(block))
                block = []
            if line.lstrip().startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
                for cell in re.split(r"(?<!\\)\|", line):
                    yield from _split(number, "page", cell)
        else:
            first = first if block else number
            block.append(line)


def _main(arguments: list[str]) -> None:
    count = int(arguments[0]) if arguments else 60
    if len(arguments) > 1:
        seed = arguments[1]
    else:
        git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        seed = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    sys.stdout.write(f"seed {seed}\n")
    for number, (path, line, kind, sentence) in enumerate(draw(count, seed), 1):
        sys.stdout.write(f"{number}. {path}:{line} ({kind})\n   {sentence}\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
