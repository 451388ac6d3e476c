"""Write YAML that is easy to read: with block style for texts of several lines, without aliases."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """A YAML writer for documents that an operator reads."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - any node of a document
        """Return True, so that a repeated value is written out each time, without an alias."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def yaml_text(document: object) -> str:
    """Return *document* as YAML, without sorting its keys."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False)
