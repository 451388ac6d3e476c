"""Tests that any input is read or reported in one line per problem, without a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from entrepot.config import keys
from entrepot.config.errors import ConfigError
from entrepot.config.keys import Key
from entrepot.config.loader import DefaultPaths, examine
from entrepot.config.pull_secret import parse
from tests.sizes import scaled

_KEYS = sorted(keys.names())
_ODD = st.sampled_from(
    ["", "~", "0", "-1", "1G", "1h", "true", ":5000", "a b", "[", "{", "*", "&a", "https://a.io"]
)
_SCALARS = st.one_of(_ODD, st.text(max_size=8), st.none(), st.booleans(), st.integers())
_VALUES = st.recursive(
    _SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=3), st.dictionaries(st.text(max_size=6), below, max_size=3)
    ),
    max_leaves=5,
)
_NOWHERE = DefaultPaths(Path("/none/etc.yml"), Path("/none/secret"), Path("/none/certs"))
_FEW_EXAMPLES = settings(
    max_examples=scaled(15, 200),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _assert_reported(argv: list[str], environ: dict[str, str]) -> None:
    loaded = examine(argv, environ, _NOWHERE)
    for each in (*loaded.problems, *loaded.warnings):
        assert str(each).isprintable(), str(each)
        assert each.message


def _document(values: list[tuple[Key, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in values:
        section = document
        for name in key[:-1]:
            below = section.setdefault(name, {})
            section = section[name] = below if isinstance(below, dict) else {}
        section[key[-1]] = value
    return document


@_FEW_EXAMPLES
@given(st.lists(st.tuples(st.sampled_from(_KEYS), _VALUES), max_size=4))
def test_any_value_of_any_key_is_read_or_reported(
    tmp_path: Path, values: list[tuple[Key, Any]]
) -> None:
    """Any value of any key in the file is read or reported as a problem."""
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(_document(values)), encoding="utf-8")

    _assert_reported([str(path)], {})


@_FEW_EXAMPLES
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_any_file_is_read_or_reported(tmp_path: Path, content: bytes) -> None:
    """Any file, with text or arbitrary bytes, is read or reported as a problem."""
    path = tmp_path / "config.yml"
    path.write_bytes(content)

    _assert_reported([str(path)], {})


@_FEW_EXAMPLES
@given(st.dictionaries(st.sampled_from(_KEYS), st.one_of(_ODD, st.text(max_size=12)), max_size=4))
@example({("log", "fields"): "\x1f"})
def test_any_variable_and_any_flag_is_read_or_reported(values: dict[Key, str]) -> None:
    """Any value of a known variable or flag is read or reported as a problem."""
    environ = {"_".join(("REGISTRY", *key)).upper(): value for key, value in values.items()}
    argv = [f"--{'.'.join(key)}={value}" for key, value in values.items()]

    _assert_reported([], environ)
    _assert_reported(argv, {})


@_FEW_EXAMPLES
@given(st.lists(st.text(max_size=12), max_size=3), st.dictionaries(st.text(), st.text()))
def test_any_argument_is_read_or_reported(argv: list[str], environ: dict[str, str]) -> None:
    """Any arguments and any environment are read or reported as problems."""
    prefixed = {f"REGISTRY_{name}": value for name, value in environ.items()}

    _assert_reported(argv, environ | prefixed)


@_FEW_EXAMPLES
@given(
    st.one_of(
        st.binary(max_size=40),
        st.dictionaries(
            st.one_of(
                st.text(max_size=12), st.sampled_from(["a.io", "*.b.io/c", "https://a.io/v1/"])
            ),
            st.one_of(
                _VALUES,
                st.dictionaries(
                    st.sampled_from(["auth", "username", "password", "identitytoken"]), _VALUES
                ),
            ),
        ).map(lambda auths: json.dumps({"auths": auths}).encode()),
    )
)
def test_any_secret_is_read_or_reported(content: bytes) -> None:
    """Any pull secret is read or reported as a problem, and lookups in it raise no error."""
    try:
        secret = parse(content)
    except ConfigError:
        return
    for host in (*secret.hosts, "x.b.io"):
        secret.lookup(host, "a/b")
        secret.names(host)
