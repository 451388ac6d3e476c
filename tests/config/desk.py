"""A folder in which an operator writes his configuration."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from config.loader import Loaded, Places, examine
from config.schema import Settings


class Desk:
    """A folder in which an operator writes his configuration."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yml"
        self.places = Places(
            folder / "etc.yml", folder / "secret.json", folder / "certs", folder / "newer.yml"
        )

    def write(self, text: str) -> None:
        """Write the file."""
        self.file.write_text(dedent(text), encoding="utf-8")

    def examine(self, *argv: str, **environ: str) -> Loaded:
        """Load all that was said; the file too, once it is written."""
        named = [str(self.file)] if self.file.exists() else []
        return examine([*named, *argv], environ, self.places)

    def settings(self, *argv: str, **environ: str) -> Settings:
        """Load all that was said, which has no problem."""
        loaded = self.examine(*argv, **environ)
        assert loaded.problems == ()
        return loaded.settings

    def problems(self, *argv: str, **environ: str) -> list[str]:
        """Return the lines of the problems, the file's path shortened."""
        return self._short(map(str, self.examine(*argv, **environ).problems))

    def warnings(self, *argv: str, **environ: str) -> list[str]:
        """Return the lines of the warnings, but for that of the open door."""
        lines = map(str, self.examine(*argv, **environ).warnings)
        return [each for each in self._short(lines) if "everybody who can reach it" not in each]

    def _short(self, lines: object) -> list[str]:
        assert isinstance(lines, map)
        return [str(each).replace(f"{self.file.parent}/", "") for each in lines]
