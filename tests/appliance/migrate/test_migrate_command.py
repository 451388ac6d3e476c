"""Test `entrepot migrate` from the command line, between data directories."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from entrepot import config
from entrepot.appliance import rundir
from entrepot.appliance.__main__ import main
from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from entrepot.runtime.run_names import SETTINGS
from tests.appliance.migrate.sides import contents, on_disk
from tests.cleaner.stock import push
from tests.images import filler


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with one image, which no test changes."""
    root = tmp_path_factory.mktemp("made")
    push(on_disk(root), 1, 1000.0)
    return root


def _file(folder: Path, **storage: object) -> str:
    path = folder / "to.yml"
    path.write_text(yaml.safe_dump({"version": 0.1, "storage": storage}))
    return str(path)


def test_a_data_directory_is_moved_to_the_place_that_a_file_names(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` prints the report as one JSON object; a second run has nothing to copy."""
    to = _file(tmp_path, filesystem={"rootdirectory": str(tmp_path / "to")})

    assert main(["migrate", "--json", str(made), to]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["migrate", str(made), to]) == 0
    second = capsys.readouterr().out

    assert first["complete"] is True
    assert (first["from"], first["to"]) == (str(made), str(tmp_path / "to"))
    assert first["blobs"]["copied"] == first["blobs"]["found"] == 3
    assert contents(on_disk(tmp_path / "to")) == contents(on_disk(made))
    assert "0 of 3 blobs copied" in second
    assert second.splitlines()[-1] == "complete"
    left = [each.name for each in (tmp_path / "to/entrepot").iterdir()]
    assert not [name for name in left if name.startswith("migrate-")]


def test_damaged_content_makes_the_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If blobs are damaged, the output has a line for each, and the exit code is 1."""
    source = on_disk(tmp_path / "from")
    damaged = push(source, 1, 1000.0).digests[2]
    source.storage.write(layout.blob(damaged), filler(20_000, 9))

    assert main(["migrate", str(tmp_path / "from"), str(_made(tmp_path / "to"))]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{damaged}  damaged: ")
    assert lines[0].endswith("linked by team/app")
    assert lines[-1] == "NOT complete"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_variables_do_not_apply_to_either_side(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`entrepot migrate` ignores environment variables: they would apply to source and target."""
    monkeypatch.setenv("REGISTRYDIR", str(tmp_path / "other"))
    monkeypatch.setenv("ENTREPOT_STATEDIR", str(tmp_path / "state"))

    assert main(["migrate", str(made), str(_made(tmp_path / "to"))]) == 0

    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (lambda made, _: [str(made)], "entrepot migrate FROM TO"),
        (lambda made, to: [str(made), str(to), "--force"], "entrepot migrate FROM TO"),
        (lambda made, _: [str(made), str(made)], "name another target"),
        (lambda _, to: [str(to / "empty"), str(to / "new")], "the source has no content"),
        (lambda made, to: [str(to / "absent.yml"), str(made)], "absent.yml"),
        (
            lambda made, to: [str(made), _file(to, inmemory={"rootdirectory": str(to / "shm")})],
            "content in memory is deleted",
        ),
        (
            lambda made, to: [
                str(made),
                _file(
                    to,
                    filesystem={"rootdirectory": str(to / "x")},
                    statedir=str(made / "entrepot"),
                ),
            ],
            "set another storage.statedir",
        ),
    ],
    ids=["one side", "flag", "same place", "empty", "no file", "memory", "same state"],
)
def test_bad_input_is_one_line_and_code_2(
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: Callable[[Path, Path], list[str]],
    expected: str,
) -> None:
    """For bad input `entrepot migrate` prints one line with a remedy and exits with 2."""
    _made(tmp_path / "empty")
    _made(tmp_path / "new")

    assert main(["migrate", *words(made, tmp_path)]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert expected in lines[0]


def _serve(root: Path, run: Path, *, is_read_only: bool) -> None:
    """Write the settings of an appliance that serves *root* into the run directory *run*."""
    flags = [f"--storage.filesystem.rootdirectory={root}"]
    if is_read_only:
        flags.append("--storage.maintenance.readonly.enabled=true")
    config.dump(config.load(flags, {}).settings, run / SETTINGS)


@pytest.mark.parametrize(("is_read_only", "code"), [(False, 2), (True, 0)])
def test_a_source_that_is_served_must_be_read_only(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], code: int, *, is_read_only: bool
) -> None:
    """A running appliance's content is copied only if the appliance is read-only."""
    to = _made(tmp_path / "to")
    with rundir.create(made / "entrepot") as run:
        _serve(made, run, is_read_only=is_read_only)

        assert main(["migrate", str(made), str(to)]) == code

    if code:
        assert "stop it, or restart it with storage.maintenance" in capsys.readouterr().err


def test_a_target_that_is_served_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A target that a running appliance uses is refused, even if that appliance is read-only."""
    to = tmp_path / "to"
    (to / "entrepot").mkdir(parents=True)
    with rundir.create(to / "entrepot") as run:
        _serve(to, run, is_read_only=True)

        assert main(["migrate", str(made), str(to)]) == 2

    assert "another appliance uses this data directory" in capsys.readouterr().err
    assert on_disk(to).blobs.stat(Digest.of(b"")) is None


def test_no_appliance_can_start_on_a_source_that_is_held(made: Path) -> None:
    """While a migration reads a data directory, no appliance can start on that directory."""
    state = made / "entrepot"
    with (
        rundir.hold(state),
        pytest.raises(config.ConfigError, match="another appliance"),
        rundir.create(state),
    ):
        pass
