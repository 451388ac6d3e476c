"""A test that `entrepot check` and the workers accept the same password files."""

from __future__ import annotations

import pytest

from entrepot.config.htpasswd import htpasswd_problems
from entrepot.registry.auth.htpasswd import parse
from entrepot.registry.errors import InvalidHtpasswd

_HASH = b"$2y$05$" + b"a" * 53

LINES = [
    b"ann:" + _HASH,
    b"\xef\xbb\xbfann:" + _HASH,
    b"an\x00n:" + _HASH,
    b"an\x1fn:" + _HASH,
    b"an\x0bn:" + _HASH,
    b"an\xc2\x85n:" + _HASH,
    b"an\xe2\x80\xa8n:" + _HASH,
    b"ann:" + _HASH + b"\xc2\xa0",
    b"ann:$2x$05$" + b"a" * 53,
    b"\xff\xfe:" + _HASH,
    b":" + _HASH,
    b"ann",
    b"  # a comment",
    b"\x0c",
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_check_and_workers_reject_the_same_lines(line: bytes) -> None:
    """`entrepot check` and the workers, which parse htpasswd separately, reject the same lines."""
    found = htpasswd_problems(line + b"\n", "file")
    try:
        parse(line + b"\n")
    except InvalidHtpasswd:
        assert found
    else:
        assert found == []
