"""Test the settings of `log:`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.config import handover
from entrepot.config.mail_hooks import MailHook
from entrepot.config.show import shown_settings
from entrepot.runtime import run_names
from tests.config.config_folder import ConfigFolder

_HOOK = """
    type: mail
    levels: [panic, Warning]
    options:
      smtp: {addr: "mail.example:25", username: ann, password: "p w", insecure: true}
      from: registry@example.com
      to: [admin@example.com, root]
"""


@pytest.mark.parametrize("given", ["debug", "DEBUG", "Debug"])
def test_a_level_may_have_capitals(config_folder: ConfigFolder, given: str) -> None:
    """A log level may have capitals, as in docker distribution."""
    assert config_folder.settings(f"--log.level={given}").log.level == "debug"
    assert config_folder.settings(REGISTRY_LOGLEVEL=given).log.level == "debug"


@pytest.mark.parametrize(
    ("given", "near"),
    [("trace", "debug"), ("warning", "warn"), ("fatal", "error"), ("panic", "error")],
)
def test_other_levels_of_logrus_are_refused(
    config_folder: ConfigFolder, given: str, near: str
) -> None:
    """A level that only logrus has is refused, as in docker distribution."""
    (problem,) = config_folder.problems(f"--log.level={given}")

    assert (
        problem
        == f"--log.level={given}: the level is not one of info, error, warn, debug; try {near}"
    )


def test_the_access_log_is_printed_in_the_image_only(config_folder: ConfigFolder) -> None:
    """By default only the image prints the access log; a configuration file overrides this."""
    assert config_folder.settings().log.accesslog.disabled
    assert not config_folder.settings(ENTREPOT_IMAGE="1").log.accesslog.disabled

    config_folder.write("log: {accesslog: {disabled: false}}")
    assert not config_folder.settings().log.accesslog.disabled
    config_folder.write("log: {accesslog: {disabled: true}}")
    assert config_folder.settings(ENTREPOT_IMAGE="1").log.accesslog.disabled


def test_fields_have_the_types_of_yaml(config_folder: ConfigFolder) -> None:
    """Fields of the log have the types of YAML; a field without a value is omitted."""
    config_folder.write(
        """
        log:
          fields:
            service: registry
            n: 5
            quoted: "5"
            on: true
            share: 0.5
            day: 2020-01-01
            none:
        """
    )

    expected = {
        "service": "registry",
        "n": 5,
        "quoted": "5",
        "on": True,
        "share": 0.5,
        "day": "2020-01-01",
    }
    found = config_folder.settings().log.fields
    assert expected == found
    assert [type(each) for each in expected.values()] == [type(each) for each in found.values()]


def test_variables_set_all_fields_or_single_ones(config_folder: ConfigFolder) -> None:
    """A variable can add one log field to those of the file, or replace all of them by a map."""
    config_folder.write("log: {fields: {service: registry, n: 5}}")

    single = config_folder.settings(
        REGISTRY_LOG_FIELDS_N="6", REGISTRY_LOG_FIELDS_ENVIRONMENT="a b"
    )
    whole = config_folder.settings(REGISTRY_LOG_FIELDS="{other: 1}")

    assert single.log.fields == {"service": "registry", "n": 6, "environment": "a b"}
    assert whole.log.fields == {"other": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]", "not a map of fields"),
        ("{a: [b]}", "a: the value is not a text, a number or a Boolean"),
        ("{a: {b: c}}", "a: the value is not a text, a number or a Boolean"),
        ('{"a\\nb": c}', "not the name of a field"),
        ("{a: %s}" % ("x" * 1025), "a: the value is longer than 1024 characters"),
        ("{" + ", ".join(f"a{n}: b" for n in range(33)) + "}", "more than 32 fields"),
    ],
)
def test_unusable_fields_are_one_line_each(
    config_folder: ConfigFolder, text: str, message: str
) -> None:
    """Each unusable field of the log causes one line with its key, the reason and a remedy."""
    config_folder.write(f"log: {{fields: {text}}}")

    (problem,) = config_folder.problems()
    assert problem.startswith("config.yml:1: log.fields=")
    assert message in problem
    assert "; " in problem


def test_fields_and_hooks_are_shown_on_one_line_each(config_folder: ConfigFolder) -> None:
    """`entrepot check` shows fields and hooks of the log on one line each, without passwords."""
    config_folder.write(f"log:\n fields: {{a: b c, n: 5, d: true}}\n hooks:\n  -{_HOOK}")

    shown = dict(shown_settings(config_folder.settings()))
    assert shown["log", "fields"] == "a=b c n=5 d=true"
    assert shown["log", "hooks"] == "mail panic warn to admin@example.com root"


def test_a_field_that_is_not_finite_is_a_text(config_folder: ConfigFolder) -> None:
    """A field that is not a finite number is a text, because JSON has no infinite numbers."""
    config_folder.write("log: {fields: {a: .inf}}")

    assert config_folder.settings().log.fields == {"a": "inf"}


def test_a_mail_hook_has_the_keys_of_docker_distribution(config_folder: ConfigFolder) -> None:
    """A mail hook has the keys of docker distribution; `warning` means the level `warn`."""
    config_folder.write(f"log:\n hooks:\n  -{_HOOK}")

    assert config_folder.settings().log.hooks == (
        MailHook(
            ("panic", "warn"),
            "mail.example",
            25,
            "registry@example.com",
            ("admin@example.com", "root"),
            "ann",
            "p w",
            is_insecure=True,
        ),
    )


def test_a_disabled_hook_is_left_out(config_folder: ConfigFolder) -> None:
    """A disabled mail hook is ignored, and its keys are not checked.

    Docker distribution's sample file has such a hook.
    """
    config_folder.write("log: {hooks: [{type: mail, disabled: true, levels: [loud]}]}")

    assert config_folder.settings().log.hooks == ()


def test_variables_set_single_keys_of_a_hook(config_folder: ConfigFolder) -> None:
    """Variables set single keys of a mail hook.

    So the password need not be in the file. In variables docker distribution's name of `options` is
    MAILOPTIONS.
    """
    config_folder.write(f"log:\n hooks:\n  -{_HOOK}")

    settings = config_folder.settings(
        REGISTRY_LOG_HOOKS_0_MAILOPTIONS_SMTP_PASSWORD="{x",
        REGISTRY_LOG_HOOKS_0_OPTIONS_TO_1="ops@example.com",
        REGISTRY_LOG_HOOKS_0_LEVELS="[error]",
    )

    (hook,) = settings.log.hooks
    assert (hook.password, hook.levels) == ("{x", ("error",))
    assert hook.recipients == ("admin@example.com", "ops@example.com")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: mail", "type: slack", "hook 0: the type of the hook is not known; try type: mail"),
        ("type: mail", "tipe: mail", "hook 0: no such key: tipe; did you mean type?"),
        ("levels: [panic, Warning]", "levels: []", "hook 0: levels: empty, so no line is mailed"),
        ("[panic, Warning]", "[loud]", "hook 0: levels: not one of panic, fatal, error, warn"),
        ("mail.example:25", "mail.example", "hook 0: options.smtp.addr: not a host and a port"),
        ("mail.example:25", "mail.example:0", "hook 0: options.smtp.addr: not a whole number"),
        ("from: registry@example.com", "from: a b", "hook 0: options.from: not a mail address"),
        ("[admin@example.com, root]", "[]", "hook 0: options.to: no mail address"),
        ("insecure: true", "insecure: maybe", "hook 0: options.smtp.insecure: neither true nor"),
        ("insecure: true", "tls: true", "hook 0: options.smtp: no such key: tls"),
    ],
)
def test_an_unusable_hook_is_one_line(
    config_folder: ConfigFolder, old: str, new: str, message: str
) -> None:
    """An unusable mail hook causes one line at the start, before any line is mailed."""
    assert old in _HOOK
    config_folder.write(f"log:\n hooks:\n  -{_HOOK.replace(old, new)}")

    (problem,) = config_folder.problems()
    assert problem.startswith(f"config.yml:3: log.hooks=***: {message}")


def test_the_password_of_a_hook_is_in_no_message(config_folder: ConfigFolder) -> None:
    """No message shows the password in a mail hook."""
    given = "[{type: slack, options: {smtp: {password: hunter2}}}]"
    messages = [
        *config_folder.problems(REGISTRY_LOG_HOOKS=given),
        *config_folder.problems(REGISTRY_LOG_HOOKS_7_OPTIONS_SMTP_PASSWORD="hunter2"),
        *config_folder.problems(f"--log.hooks={given}"),
    ]

    assert len(messages) == 3
    assert "hunter2" not in "".join(messages)


def test_other_programs_do_not_get_the_passwords_of_hooks(
    config_folder: ConfigFolder, tmp_path: Path
) -> None:
    """Only `serve` gets the passwords of mail hooks; other programs get the log's fields."""
    config_folder.write(f"log:\n fields: {{n: 5, on1: true}}\n hooks:\n  -{_HOOK}")
    path = tmp_path / run_names.SETTINGS

    handover.dump(config_folder.settings(), path)

    assert "p w" not in path.read_text()
    passed = handover.resolved({"ENTREPOT_SETTINGS": str(path)}).log
    assert passed.hooks == ()
    assert passed.fields == {"n": 5, "on1": True}
    assert json.loads(path.read_text())["log"]["fields"] == {"n": 5, "on1": True}
