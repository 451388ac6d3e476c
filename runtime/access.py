"""The words of access rules: the actions, and the names that stand for groups of clients."""

from __future__ import annotations

from typing import Final, Literal

Action = Literal["pull", "push", "delete"]

EVERY_USER: Final = "*"
"""As the user of a rule, this word means every user with a password."""
ANONYMOUS: Final = "anonymous"
"""As the user of a rule, this word means every client, even without a password."""
