"""How a setting is declared: once, with its default, meaning and names."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(
    default: object, meaning: str, *, env: str = "", shown: str | None = None, secret: bool = False
) -> Any:  # noqa: ANN401 - as pydantic's Field: the annotation beside it says the type
    """Declare a setting: its default as an operator would write it, its meaning, its names.

    *env* is its variable's name where that is not the one its key makes (REGISTRY_A_B_C for
    a.b.c, which then is a second one). *shown* tells a default that depends on where we run.
    """
    extra: dict[str, Any] = {"env": env, "shown": shown, "secret": secret}
    if callable(default):
        return Field(
            default_factory=default,
            description=meaning,
            repr=not secret,
            json_schema_extra=extra,
        )
    return Field(default, description=meaning, repr=not secret, json_schema_extra=extra)


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )
