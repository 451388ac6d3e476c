"""Create a folder with the configuration of an operator, for tests."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from entrepot.config.loader import DefaultPaths, Loaded, examine
from entrepot.config.schema import Settings


class ConfigFolder:
    """A `ConfigFolder` has a configuration file and the usual places of other files."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yml"
        self.places = DefaultPaths(
            folder / "etc.yml", folder / "secret.json", folder / "certs", folder / "newer.yml"
        )

    def write(self, text: str) -> None:
        """Write the configuration file."""
        self.file.write_text(dedent(text), encoding="utf-8")

    def examine(self, *argv: str, **environ: str) -> Loaded:
        """Load the configuration from the arguments, the variables and the file, if it exists."""
        named = [str(self.file)] if self.file.exists() else []
        return examine([*named, *argv], environ, self.places)

    def settings(self, *argv: str, **environ: str) -> Settings:
        """Load the configuration, which must have no problems, and return its settings."""
        loaded = self.examine(*argv, **environ)
        assert loaded.problems == ()
        return loaded.settings

    def problems(self, *argv: str, **environ: str) -> list[str]:
        """Return the lines of the problems, with the folder's path removed."""
        return self._short(map(str, self.examine(*argv, **environ).problems))

    def warnings(self, *argv: str, **environ: str) -> list[str]:
        """Return the lines of the warnings, without that of a registry that is open to all."""
        lines = map(str, self.examine(*argv, **environ).warnings)
        return [
            each
            for each in self._short(lines)
            if "every client that can reach the appliance" not in each
        ]

    def _short(self, lines: object) -> list[str]:
        assert isinstance(lines, map)
        return [str(each).replace(f"{self.file.parent}/", "") for each in lines]
