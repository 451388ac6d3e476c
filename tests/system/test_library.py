"""Runs the program of docs/library.md as a reader of the page would, with the installed wheel."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests import images
from tests.ports import free_port
from tests.system import processes
from tests.system.appliance import ROOT
from tests.system.http_client import HttpClient, listens
from tests.system.pulls import blob_path, manifest_path, pull
from tests.system.pushes import push
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

_FILES = re.compile(r"^`(\w+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "haproxy.cfg", "supervisord.conf")
_IMAGE = images.image([images.filler(50_000, 1)])
_FORGOTTEN = images.image([images.filler(50_000, 2)])


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a Python that has the wheel, and that cannot import the source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"])
    _wheel(folder)
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    (wheel,) = (folder / "dist").glob("*.whl")
    shutil.unpack_archive(wheel, site, "zip")
    # The wheel's dependencies are in the site-packages of the test run. A .pth file there adds the
    # source tree, but Python does not read .pth files in a folder that a .pth file adds.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "venv/bin/python"


def _wheel(folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    for name in _SOURCES:
        shutil.copy(ROOT / name, source)
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    for package in {each.partition(".")[0] for each in named["find"]["include"]}:
        shutil.copytree(ROOT / package, source / package)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    _run([*pip, "--wheel-dir", folder / "dist", source])


def _run(words: Sequence[str | Path]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


class Program:
    """The program of docs/library.md in its own folder; its output is in the file `log`."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.port = free_port()
        self.http = HttpClient(self.port)
        self.ann = replace(self.http, login="ann:sesame")
        self.bob = replace(self.http, login="bob:builder")
        self.folder = folder
        self.log = folder / "output"
        page = (ROOT / "docs/library.md").read_text(encoding="utf-8")
        for name, text in _FILES.findall(page):
            (folder / name).write_text(text)
        settings = {"ADDRESS": f"127.0.0.1:{self.port}", **settings}
        with (folder / "config.py").open("a") as own:
            own.writelines(f"{name} = {value!r}\n" for name, value in settings.items())

    @contextmanager
    def running(self, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """Start the program, and end it with SIGTERM after the `with` block; assert exit code 0."""
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                words,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                env=processes.clean_environment({"HOME": str(self.folder)}),
            )
        try:
            eventually(lambda: listens(self.port), what=f"the program listens, see {self.log}")
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0, self.output()
        finally:
            process.kill()
            process.wait()

    def output(self) -> str:
        """Return everything that the program has written to its log."""
        return self.log.read_text(errors="replace")


def test_the_program_of_the_page_runs(python: Path, tmp_path: Path) -> None:
    """The program of docs/library.md checks logins, fetches from an upstream, and evicts."""
    with FakeUpstream() as u:
        upstream = u.put_image("library/app", "v1", _IMAGE)
        program = Program(tmp_path, UPSTREAMS={"one.test": u.url}, TTL=3.0)
        with program.running(python, "program.py"):
            assert program.http.get("/v2/").status == 401
            assert replace(program.http, login="ann:guess").get("/v2/").status == 401
            assert push(program.ann, "ann/app", "v1", _IMAGE)
            assert push(program.bob, "bob/app", "v1", _FORGOTTEN)
            assert program.bob.request("POST", "/v2/ann/app/blobs/uploads/").status == 403
            assert pull(program.bob, "ann/app", "v1") == pull(
                program.ann, "one.test/library/app", "v1"
            )

            eventually(
                lambda: (
                    program.ann.get(manifest_path("ann/app", "v1")).status == 200
                    and not _blob(tmp_path, Digest.of(_FORGOTTEN.layers[0])).exists()
                ),
                what="the image without a pull is evicted, and the other one stays",
            )

    assert upstream.digest == _IMAGE.digest
    layer, size = Digest.of(_IMAGE.layers[0]), len(_IMAGE.layers[0])
    assert f"INFO images used: {layer} of {size} bytes in ann/app" in program.output()
    assert "INFO entrepot.cleaner.rounds evicted entries=" in program.output()
    assert "Traceback" not in program.output()


def test_the_program_runs_in_another_server(python: Path, tmp_path: Path) -> None:
    """The program of docs/library.md also runs in two worker processes of gunicorn."""
    program = Program(tmp_path, UPSTREAMS=[], TTL=0)
    words = ["-m", "gunicorn", "--workers=2", "--worker-class=gthread", "--threads=4"]
    bind = f"--bind=127.0.0.1:{program.port}"
    with program.running(python, *words, "--no-control-socket", bind, "program:app"):
        assert push(program.ann, "ann/app", "v1", _IMAGE)
        digest = pull(program.bob, "ann/app", "v1")[0]
        assert program.bob.get(blob_path("ann/app", digest)).status == 404

    assert "Traceback" not in program.output()


def test_the_program_imports_its_own_modules(python: Path, tmp_path: Path) -> None:
    """A program that has its own modules `config` and `logger` can import the registry."""
    Program(tmp_path)
    check = (
        "import program, sys\n"
        "for name in ('config', 'logger', 'entrepot.registry', 'entrepot.cleaner'):\n"
        "    print(sys.modules[name].__file__)\n"
    )
    done = subprocess.run(
        [python, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = [Path(line) for line in done.stdout.splitlines()]

    assert [tmp_path] * 2 == [each.parent for each in found[:2]]
    assert all(each.is_relative_to(python.parents[1]) for each in found[2:])


def _blob(folder: Path, digest: Digest) -> Path:
    blobs = folder / "images/docker/registry/v2/blobs"
    return blobs / digest.algorithm / digest.hex[:2] / digest.hex / "data"
