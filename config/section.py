"""Declare settings: `setting` holds the default, the meaning and the names of each setting."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def setting(
    default: object, meaning: str, *, env: str = "", shown: str | None = None, secret: bool = False
) -> Any:  # noqa: ANN401 - as pydantic's Field: the annotation of the field has the type
    """Declare a setting. *default* is the default as an operator would write it.

    *env* is the name of a variable that takes precedence over the variable derived from the key
    (REGISTRY_A_B_C for a.b.c). *shown* describes a default that depends on the environment. If
    *secret* is true, messages do not show the value.
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
    """The base class of the sections of the configuration."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )
