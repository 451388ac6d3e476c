"""Define the settings of `log:`."""

from __future__ import annotations

from typing import Annotated, Literal

from entrepot.config import log_fields, mail_hooks, readers, value_types
from entrepot.config.mail_hooks import MailHook
from entrepot.config.section import ReadBy, Section, section, setting

_FORMATS = readers.choice("combined", "json")


class AccessLogSettings(Section):
    """The settings of `log.accesslog:`."""

    disabled: value_types.Switch = setting(
        "true",
        "true: the access log is not printed on stdout",
        shown="false in the image, else true",
    )
    formatter: Annotated[Literal["combined", "json"], ReadBy(_FORMATS)] = setting(
        "combined",
        "the format of the access log's lines on stdout: combined (Combined Log Format) or json",
    )


class LogSettings(Section):
    """The settings of `log:`."""

    level: value_types.Level = setting(
        "info", "the least severe level that is logged: error, warn, info or debug"
    )
    formatter: value_types.Formatter = setting(
        "text", "the format of log lines: text, json or logstash"
    )
    fields: Annotated[dict[str, str | int | float | bool], ReadBy(log_fields.fields)] = setting(
        {}, "a map of fields that are added to every log line", shown="none"
    )
    accesslog: AccessLogSettings = section(AccessLogSettings)
    reportcaller: value_types.Switch = setting(
        "false", "whether each log line names the source file and function that logged it"
    )
    hooks: Annotated[tuple[MailHook, ...], ReadBy(mail_hooks.hooks)] = setting(
        (), "a list of mail hooks; each sends the log lines of its levels by mail", secret=True
    )
