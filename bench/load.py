"""Start the load generators, each in a separate process, and read their results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.address import ServerAddress
from bench.content import ACCEPT
from bench.errors import LoadFailed
from bench.kinds import ROOT
from bench.server import TETHER

_TIMEOUT_S = 90.0
_PACED_TIMEOUT_S = 5.0
_COUNT = re.compile(r"^\s*(\d+) requests in", re.MULTILINE)
_P99 = re.compile(r"^\s*99%\s+([\d.]+)(us|ms|s|m)\s*$", re.MULTILINE)
_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_REFUSED = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a load generator.

    `seconds` is how long the generator ran. `p99` is the 99th percentile of the response times (s),
    or 0 if the generator does not measure them. `failures` counts wrong and missing responses.
    """

    requests: int
    seconds: float
    bytes: int = 0
    p99: float = 0.0
    failures: int = 0


def get(address: ServerAddress, path: str, *, connections: int, seconds: int) -> Outcome:
    """Repeat a GET request for a small response with one thread of wrk. Raises: LoadFailed."""
    headers = [f"-H{name}: {value}" for name, value in manifest_headers(address).items()]
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    return parse_wrk(_run([*words, "--timeout", "20s", *headers, address.url(path)]), seconds)


def get_with_tokens(
    address: ServerAddress, path: str, tokens: Path, *, connections: int, seconds: int
) -> Outcome:
    """Run wrk as `get` does; each request has the next token of the file *tokens*.

    The file has one token per line. Raises: LoadFailed.
    """
    headers = [f"-H{name}: {value}" for name, value in manifest_headers(address).items()]
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "20s"]
    script = ["-s", str(ROOT / "bench" / "tokens.lua"), address.url(path), "--", str(tokens)]
    return parse_wrk(_run([*words, *headers, *script]), seconds)


def get_paths(address: ServerAddress, paths: Path, *, connections: int, seconds: int) -> Outcome:
    """Run wrk as `get` does; each request has the next URL path of the file *paths*.

    The file has one URL path per line. Raises: LoadFailed.
    """
    headers = [f"-H{name}: {value}" for name, value in manifest_headers(address).items()]
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "20s"]
    script = ["-s", str(ROOT / "bench" / "paths.lua"), address.url(""), "--", str(paths)]
    return parse_wrk(_run([*words, *headers, *script]), seconds)


def head(address: ServerAddress, path: str, *, connections: int, seconds: float) -> Outcome:
    """Repeat a HEAD request with `bench.head_load`, because wrk would wait for a body.

    Raises: LoadFailed.
    """
    task = {
        "port": address.port,
        "path": path,
        "headers": manifest_headers(address),
        "connections": connections,
        "seconds": seconds,
    }
    return run_module("bench.head_load", task)


def paced(address: ServerAddress, path: str, *, rate: int, seconds: int) -> Outcome:
    """Send GET requests at a steady rate over one connection. Raises: LoadFailed."""
    task = {
        "port": address.port,
        "path": path,
        "headers": manifest_headers(address),
        "rate": rate,
        "seconds": seconds,
        "patience": _PACED_TIMEOUT_S,
    }
    return run_module("bench.paced_load", task)


def blobs(address: ServerAddress, path: str, *, clients: int, times: int, size: int) -> Outcome:
    """Get a blob of *size* bytes with several clients, each *times* times over one connection.

    Raises: LoadFailed.
    """
    task = {
        "port": address.port,
        "tls": address.tls,
        "path": path,
        "headers": address.headers(),
        "clients": clients,
        "times": times,
        "size": size,
    }
    return run_module("bench.blob_load", task)


def pull(address: ServerAddress, repository: str) -> Outcome:
    """Pull an image as dockerd does, three layers at the same time. Raises: LoadFailed."""
    task = {
        "port": address.port,
        "prefix": address.prefix,
        "repository": repository,
        "accept": ACCEPT,
    }
    return run_module("bench.pull_load", task)


def manifest_headers(address: ServerAddress) -> dict[str, str]:
    """Return the headers with which containerd requests a manifest from this server."""
    return address.headers() | {"Accept": ACCEPT}


def run_module(module: str, task: Mapping[str, object]) -> Outcome:
    """Run the load generator in the Python module *module* with a task; return its outcome.

    Raises: LoadFailed.
    """
    text = _run(module_words(module, task))
    try:
        return Outcome(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise LoadFailed(f"{module} printed {text[:200]!r}") from error


def module_words(module: str, task: Mapping[str, object]) -> list[str]:
    """Return the command line that runs the load generator in *module* with this task."""
    return [sys.executable, "-m", module, json.dumps(task)]


def parse_wrk(text: str, seconds: int) -> Outcome:
    """Return the outcome that wrk printed after a run of *seconds*. Raises: LoadFailed."""
    count, p99 = _COUNT.search(text), _P99.search(text)
    if count is None:
        raise LoadFailed(f"wrk printed {text[:300]!r}")
    errors, refused = _ERRORS.search(text), _REFUSED.search(text)
    failures = sum(int(each) for each in errors.groups()) if errors else 0
    failures += int(refused[1]) if refused else 0
    return Outcome(
        requests=int(count[1]),
        seconds=seconds,
        p99=float(p99[1]) * _SECONDS[p99[2]] if p99 else 0.0,
        failures=failures,
    )


def _run(words: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            [*TETHER, *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{words[0]} did not end within {_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise LoadFailed(f"{words[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout
