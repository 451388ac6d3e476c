"""dockerd pulls an image in Docker's format and pushes it to another repository."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.system.appliance import Setup
from tests.system.conftest import Start
from tests.system.dockerd import Dockerd
from tests.system.images import KB, of_size
from tests.system.pulls import pull
from tests.system.pushes import push


@pytest.fixture
def home() -> Iterator[Path]:
    """Create a folder with a short path, because the length of a socket's path is limited."""
    folder = Path(tempfile.mkdtemp(prefix="dp-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_dockerd_pushes_a_pulled_image_and_pulls_it_again(start: Start, home: Path) -> None:
    """Dockerd pushes a pulled image to another repository, and can pull it from there."""
    image = of_size(200 * KB, 430, family="docker")
    appliance = start(Setup({}))
    assert push(appliance.http, "team/base", "v1", image)
    address = appliance.http.netloc
    (home / "tree" / "etc" / "docker").mkdir(parents=True)
    with Dockerd(home, ways={appliance.http.port: appliance.http.port}) as dockerd:
        dockerd.configure(home / "tree")
        own = dockerd.pull(f"{address}/team/base:v1")

        dockerd.push(f"{address}/team/base:v1", f"{address}/team/copy", "v2")
        dockerd.forget()
        again = dockerd.pull(f"{address}/team/copy:v2")

    assert own == again == {str(Digest.of(image.config))}
    assert pull(appliance.http, "team/copy", "v2")
