"""Write YAML in the style of a person: texts of several lines as blocks, and no aliases."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """A `_Dumper` writes documents that an operator reads."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - any node of a document
        """Repeat equal nodes instead of referring to the first node."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def yaml_text(document: object) -> str:
    """Return *document* as YAML, with its keys in their order."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False)
