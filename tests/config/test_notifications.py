"""Test the endpoints of `notifications:`."""

from __future__ import annotations

import json

import pytest

from entrepot.appliance.check import report
from entrepot.config.notifications import NotificationEndpoint, endpoints, show
from entrepot.config.schema import Settings
from tests.config.config_folder import ConfigFolder

_VARIABLE = "REGISTRY_NOTIFICATIONS_ENDPOINTS"


def test_an_endpoint_has_the_keys_of_docker_distribution(config_folder: ConfigFolder) -> None:
    """An endpoint has the keys and values of docker distribution's documentation."""
    config_folder.write(
        """
        notifications:
          events:
            includereferences: true
          endpoints:
            - name: alistener
              disabled: false
              url: https://my.listener.com/event
              headers:
                Authorization: [Bearer abc]
                X-Many: [a, b]
              timeout: 500ms
              threshold: 5
              backoff: 1m30s
              ignoredmediatypes:
                - application/octet-stream
              ignore:
                mediatypes:
                  - a/b
                actions:
                  - pull
        """
    )
    found = config_folder.settings().notifications

    assert found.events.includereferences
    assert found.endpoints == (
        NotificationEndpoint(
            "alistener",
            "https://my.listener.com/event",
            headers=(("Authorization", "Bearer abc"), ("X-Many", "a"), ("X-Many", "b")),
            timeout=0.5,
            threshold=5,
            backoff=90.0,
            ignoredmediatypes=("application/octet-stream", "a/b"),
            actions=("pull",),
        ),
    )


@pytest.mark.parametrize("unset", ["", "timeout: 0\n", "timeout: -1\n", "threshold: -3\n"])
def test_the_defaults_are_those_of_docker_distribution(
    config_folder: ConfigFolder, unset: str
) -> None:
    """An endpoint's time-out and threshold are 1 s and 10 failures if unset or not positive."""
    config_folder.write(
        f"notifications: {{endpoints: [{{name: a, url: 'http://h', {unset.strip()}}}]}}"
    )
    (found,) = config_folder.settings().notifications.endpoints

    assert (found.timeout, found.threshold, found.backoff) == (1.0, 10, 1.0)


def test_a_plain_number_is_in_nanoseconds(config_folder: ConfigFolder) -> None:
    """A span of an endpoint without a unit is in nanoseconds, as in docker distribution."""
    text = "[{name: a, url: 'http://h', timeout: 2000000000}]"

    assert config_folder.settings(**{_VARIABLE: text}).notifications.endpoints[0].timeout == 2.0


def test_one_key_can_be_set_by_a_variable(config_folder: ConfigFolder) -> None:
    """A variable with an index sets one key of an endpoint in the file, or adds an endpoint."""
    config_folder.write(
        "notifications: {endpoints: [{name: a, url: 'http://h', ignore: {mediatypes: [x]}}]}"
    )
    found = config_folder.settings(
        **{
            f"{_VARIABLE}_0_URL": "https://other",
            f"{_VARIABLE}_0_IGNORE_ACTIONS": "[pull, push]",
            f"{_VARIABLE}_1_NAME": "b",
            f"{_VARIABLE}_1_URL": "http://second",
        }
    ).notifications.endpoints

    assert [(each.name, each.url) for each in found] == [
        ("a", "https://other"),
        ("b", "http://second"),
    ]
    assert (found[0].ignoredmediatypes, found[0].actions) == (("x",), ("pull", "push"))


def test_an_index_beyond_the_list_is_a_problem(config_folder: ConfigFolder) -> None:
    """A variable whose index leaves a gap in the list of endpoints is refused."""
    (problem,) = config_folder.problems(**{f"{_VARIABLE}_3_URL": "http://h"})

    assert problem == f"{_VARIABLE}_3_URL=***: not the index of an entry: 3; try 0"


def test_a_disabled_endpoint_needs_no_url(config_folder: ConfigFolder) -> None:
    """A disabled endpoint is kept in the settings, and gets no events."""
    found = config_folder.settings(**{_VARIABLE: "[{name: a, disabled: true}]"}).notifications

    assert [each.disabled for each in found.endpoints] == [True]
    assert found.active == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "not a list of endpoints"),
        ("{name: a}", "not a list of endpoints"),
        ("[x]", "the endpoint is not a map with name and url"),
        ("[{url: 'http://h'}]", "endpoint 0: name is missing"),
        ("[{name: a}]", "endpoint a: url is missing"),
        ("[{name: a, url: 'ftp://h'}]", "url is not an http or https URL"),
        ("[{name: a, url: 'http://h:0/'}]", "url is not an http or https URL"),
        ("[{name: a, url: 'http://h/ x'}]", "url is not an http or https URL"),
        ('[{name: a, url: "http://h/\\nx"}]', "url is not one line"),
        (
            "[{name: a, url: 'http://h', timeout: 500}]",
            "timeout is 500, not from 1ms to 1h",
        ),
        ("[{name: a, url: 'http://h', timeout: 2h}]", "timeout is 2h, not from 1ms to 1h"),
        ("[{name: a, url: 'http://h', timeout: x}]", "timeout is not a span"),
        ("[{name: a, url: 'http://h', threshold: x}]", "threshold is not a whole number"),
        ("[{name: a, url: 'http://h', headers: x}]", "headers is not a map of lists"),
        ("[{name: a, url: 'http://h', headers: {a b: [x]}}]", "header names"),
        ("[{name: a, url: 'http://h', headers: {X: {y: z}}}]", "list of values for X"),
        ("[{name: a, url: 'http://h', headers: {Host: [x]}}]", "refused for Host"),
        ("[{name: a, url: 'http://h', ignore: x}]", "ignore is not a map"),
        ("[{name: a, url: 'http://h', ignoredmediatypes: {x: y}}]", "not a list of texts"),
        ("[{name: a, url: 'http://h'}, {name: a, url: 'http://i'}]", "2 endpoints are named a"),
        ("[" + "{name: a, url: 'http://h'}," * 17 + "]", "more than 16 endpoints"),
        ("[{name: a", "not YAML"),
    ],
)
def test_a_bad_endpoint_is_refused_on_one_line_with_a_remedy(
    config_folder: ConfigFolder, text: str, reason: str
) -> None:
    """A bad endpoint causes one line with the reason and a remedy, without secrets."""
    (problem,) = config_folder.problems(**{_VARIABLE: text})

    assert reason in problem
    assert problem.startswith(f"{_VARIABLE}=***: ")
    assert "; " in problem
    assert "\n" not in problem


@pytest.mark.parametrize("value", [r"a\nb", r"a\r\nX: y", r"a\0", r"a\u2028"])
def test_a_header_with_a_line_break_is_refused(config_folder: ConfigFolder, value: str) -> None:
    """An endpoint's header with a line break is refused: it could add another header."""
    text = f'[{{name: a, url: "http://h", headers: {{Authorization: ["{value}"]}}}}]'
    (problem,) = config_folder.problems(**{_VARIABLE: text})

    assert "refused for Authorization: a line break or another control character" in problem
    assert "write each value on one line" in problem


def test_an_alias_bomb_is_refused_at_once(config_folder: ConfigFolder) -> None:
    """A YAML text of endpoints whose aliases expand to billions of entries is refused."""
    levels = ["- &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"- &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (problem,) = config_folder.problems(**{_VARIABLE: "\n".join(levels)})

    assert "more than 50,000 values with expanded aliases; write each value once" in problem


def test_unknown_keys_and_actions_are_warnings(config_folder: ConfigFolder) -> None:
    """Docker distribution ignores an unknown key of an endpoint; the appliance logs a warning."""
    text = "[{name: a, url: 'http://h', retries: 3, ignore: {tags: [x], actions: [pul]}}]"
    warnings = config_folder.warnings(**{_VARIABLE: text})

    assert [each.partition("without effect: ")[2].partition(";")[0] for each in warnings] == [
        "endpoint a: retries",
        "endpoint a: ignore.tags",
        "endpoint a: ignore.actions: pul",
    ]


def test_the_settings_survive_the_hand_over(config_folder: ConfigFolder) -> None:
    """The programs read the same endpoints from the settings that `serve` writes for them."""
    text = "[{name: a, url: 'http://h', timeout: 1500us, headers: {X: [a, b], Y: z}}]"
    text = text.replace("1500us", "1500000")
    found = config_folder.settings(**{_VARIABLE: text})
    read = Settings.from_tree(json.loads(json.dumps(found.as_tree())))

    assert read.notifications == found.notifications
    assert read.notifications.endpoints[0].timeout == 0.0015


def test_check_lists_each_endpoint_without_passwords(config_folder: ConfigFolder) -> None:
    """`check` lists each endpoint with URL, time-out, backoff and filters, without its secrets."""
    text = (
        "[{name: ci, url: 'https://bob:hunter2@h:8/e?token=hunter2', headers: {A: [hunter2]},"
        " ignore: {actions: [pull]}}, {name: off, url: 'http://i', disabled: true}]"
    )
    page = report(config_folder.examine(**{_VARIABLE: text}))
    lines = [" ".join(line.split()) for line in page.splitlines()]

    assert "ci https://h:8/e time-out 1s after 10 failures every 1s ignores pull" in lines
    assert any(line.startswith("off disabled") for line in lines)
    assert "hunter2" not in page
    assert show(endpoints(text)) == "ci https://h:8/e; off disabled"
