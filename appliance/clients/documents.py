"""YAML as a person would write it: texts of several lines as blocks, nothing referred to."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes what a client's operator will read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - any node of a document
        """Write everything out where it belongs."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def yaml_text(document: object) -> str:
    """Write *document*, its keys in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False)
