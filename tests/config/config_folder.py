"""The configuration of an operator in a folder of the test."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from entrepot.config.loader import DefaultPaths, Loaded, examine
from entrepot.config.schema import Settings


class ConfigFolder:
    """A folder with a configuration file and the usual places of other files."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yml"
        self.places = DefaultPaths(
            folder / "etc.yml", folder / "secret.json", folder / "certs", folder / "newer.yml"
        )

    def write(self, text: str) -> None:
        """Write *text* as the configuration file."""
        self.file.write_text(dedent(text), encoding="utf-8")

    def examine(self, *argv: str, **environ: str) -> Loaded:
        """Load the configuration from arguments, variables and the file, and return the result."""
        named = [str(self.file)] if self.file.exists() else []
        return examine([*named, *argv], environ, self.places)

    def settings(self, *argv: str, **environ: str) -> Settings:
        """Load the configuration, assert that it has no problems, and return its settings."""
        loaded = self.examine(*argv, **environ)
        assert loaded.problems == ()
        return loaded.settings

    def problems(self, *argv: str, **environ: str) -> list[str]:
        """Load the configuration; return the lines of its problems, without the folder's path."""
        return self._short(map(str, self.examine(*argv, **environ).problems))

    def warnings(self, *argv: str, **environ: str) -> list[str]:
        """Load the configuration; return the lines of its warnings.

        The warning that the registry is open to every client is omitted.
        """
        lines = map(str, self.examine(*argv, **environ).warnings)
        return [
            each
            for each in self._short(lines)
            if "every client that can reach the appliance" not in each
        ]

    def _short(self, lines: object) -> list[str]:
        assert isinstance(lines, map)
        return [str(each).replace(f"{self.file.parent}/", "") for each in lines]
