"""Who asks, and what they may do."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.refs import Repository
from entrepot.registry.auth import identity as auth_identity
from entrepot.registry.auth import rules as auth_rules
from entrepot.registry.auth.identity import (
    Action,
    Anonymous,
    BasicAuthenticator,
    Identity,
    OpenAuthenticator,
)
from entrepot.registry.auth.rules import AccessGrant, AccessRules
from entrepot.registry.errors import Forbidden, Unauthenticated

_REPOSITORY = Repository("quay.io/podman/hello")
_CHALLENGE = 'Basic realm="here"'


def _header(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


_RIGHT = _header("ann", "right:one")
_WRONG = _header("ann", "wrong")
_NOBODY = "Basic Og=="


def _check(user: str, password: str) -> bool:
    return (user, password) == ("ann", "right:one")


def _basic(anonymous: Anonymous = "none") -> BasicAuthenticator:
    return BasicAuthenticator(_check, realm="here", anonymous=anonymous)


def _passes(identity: Identity, action: Action) -> bool:
    """Tell whether `require` lets pass; if not, it is with our challenge."""
    return _challenged(lambda: identity.require(action, _REPOSITORY)) is None


def _enters(identity: Identity) -> bool:
    """Tell whether `GET /v2/` lets pass; likewise."""
    return _challenged(identity.require_access) is None


def _challenged(act: Callable[[], None]) -> str | None:
    try:
        act()
    except Unauthenticated as error:
        return _ours(error.challenge)
    return None


def _ours(challenge: str) -> str:
    assert challenge == _CHALLENGE
    return challenge


_MALFORMED = [
    "Basic",
    "Basic ",
    "Basic !!!!",
    "Basic Og=",
    "Basic O",
    "Basic b25seXVzZXI=",  # onlyuser
    "Basic /////w==",  # not UTF-8
    "Basic YTpiCg==",  # a:b and a line feed
    f"{_RIGHT},{_RIGHT}",
    f"{_RIGHT}, {_WRONG}",
    f"{_RIGHT} {_RIGHT}",
    _RIGHT.replace("Basic ", "Basic"),
    _RIGHT.removeprefix("Basic "),
    "Bearer abc",
    "Digest username=ann",
    "B\u00e4sic Og==",
]


@pytest.mark.parametrize(
    ("header", "user", "pulls", "enters"),
    [
        (_RIGHT, "ann", True, True),
        (_RIGHT.replace("Basic", "bAsIc "), "ann", True, True),
        (_WRONG, None, False, False),
        (_NOBODY, None, False, False),
        (None, None, False, False),
        ("", None, False, False),
        *[(each, None, False, False) for each in _MALFORMED],
    ],
)
def test_with_a_password_file_only_who_is_known_comes_in(
    header: str | None,
    user: str | None,
    pulls: bool,  # noqa: FBT001 - a table's column
    enters: bool,  # noqa: FBT001
) -> None:
    """All others are challenged, on `/v2/` and where they pull; nothing is a 500."""
    identity = _basic().identify(header)

    assert user == identity.user
    assert (pulls, enters) == (_passes(identity, "pull"), _enters(identity))


@pytest.mark.parametrize(
    "header",
    [
        "Basic YTpi=",
        "Basic YTpi==",
        "Basic YTpi\xa0",
        "Basic YTpi\x85",
        "Basic YTpi\x0b",
        "Basic YTo",
    ],
)
def test_what_haproxy_reads_no_user_from_is_no_credential(header: str) -> None:
    """Too much padding, or white space that is none in HTTP: such guesses were never counted."""
    everybody = BasicAuthenticator(lambda _user, _password: True, realm="here")

    assert everybody.identify("Basic YTpi").user == "a"
    assert everybody.identify(header).user is None


@pytest.mark.parametrize(
    ("header", "user", "enters"),
    [
        (_RIGHT, "ann", True),
        (None, None, True),
        ("", None, True),
        (_NOBODY, None, True),
        (_WRONG, None, False),
        *[(each, None, False) for each in _MALFORMED],
    ],
)
def test_with_anonymous_pull_everybody_pulls_and_a_wrong_password_is_still_wrong(
    header: str | None,
    user: str | None,
    enters: bool,  # noqa: FBT001 - a table's column
) -> None:
    """`podman login` tries a password on `/v2/`; dockerd sends the Hub's on pull paths."""
    identity = _basic("pull").identify(header)

    assert user == identity.user
    assert _passes(identity, "pull")
    assert enters == _enters(identity)


@pytest.mark.parametrize("anonymous", ["none", "pull"])
@pytest.mark.parametrize(
    ("header", "is_greeted"),
    [(_RIGHT, True), (None, False), ("", False), (_NOBODY, False), (_WRONG, False)],
)
def test_the_version_check_greets_users_alone_where_there_are_passwords(
    anonymous: Anonymous,
    header: str | None,
    is_greeted: bool,  # noqa: FBT001 - a table's column
) -> None:
    """Also where strangers may pull: clients send a password only after a challenge there."""
    identity = _basic(anonymous).identify(header)

    if is_greeted:
        identity.require_login()
    else:
        with pytest.raises(Unauthenticated):
            identity.require_login()


@pytest.mark.parametrize("anonymous", ["none", "pull"])
@pytest.mark.parametrize("header", [_RIGHT, _WRONG, _NOBODY])
def test_a_bearer_token_of_the_same_letters_is_the_same_credential(
    anonymous: Anonymous, header: str
) -> None:
    """Docker sends back as a token what it logged in with."""
    basic = _basic(anonymous)
    bearer = header.replace("Basic", "Bearer").replace("basic", "Bearer")

    assert bearer.startswith("Bearer ")
    assert basic.identify(bearer) == basic.identify(header)


@pytest.mark.parametrize("anonymous", ["none", "pull"])
@pytest.mark.parametrize("action", ["push", "delete"])
def test_what_needs_a_right_is_challenged_where_it_happens(
    anonymous: Anonymous, action: Action
) -> None:
    """A user has it, nobody has not."""
    basic = _basic(anonymous)

    assert _passes(basic.identify(_RIGHT), action)
    assert not _passes(basic.identify(None), action)
    assert not _passes(basic.identify(_WRONG), action)


def test_who_is_known_and_lacks_a_right_is_forbidden() -> None:
    """No other password is asked for."""
    with pytest.raises(Forbidden):
        Identity("ann", frozenset({"pull"}), _CHALLENGE).require("push", _REPOSITORY)


@pytest.mark.parametrize("header", [None, "", _RIGHT, _WRONG, *_MALFORMED])
def test_an_open_registry_asks_nobody(header: str | None) -> None:
    """Whatever is sent; as docker distribution without auth."""
    identity = OpenAuthenticator().identify(header)

    identity.require_access()
    identity.require("pull", _REPOSITORY)
    identity.require("push", _REPOSITORY)
    assert identity.user is None


def test_a_realm_cannot_break_its_header() -> None:
    """Quotes are escaped, what no header may hold is replaced."""
    basic = BasicAuthenticator(_check, realm='a "b"\\\r\nX: ü')

    with pytest.raises(Unauthenticated) as caught:
        basic.identify(None).require_access()

    assert caught.value.challenge == 'Basic realm="a \\"b\\"\\\\??X: ?"'


_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


@given(_TEXT.filter(lambda user: ":" not in user), _TEXT)
def test_any_user_and_password_arrive_as_they_were_sent(user: str, password: str) -> None:
    """Colons in a password and letters of any script included."""
    arrived: list[tuple[str, str]] = []

    def check(user: str, password: str) -> bool:
        arrived.append((user, password))
        return True

    identity = BasicAuthenticator(check, realm="here").identify(_header(user, password))

    if user or password:
        assert arrived == [(user, password)]
        assert identity.user == user
    else:
        assert arrived == []
        assert identity.user is None


@given(st.text())
def test_no_header_raises(header: str) -> None:
    """Whatever it holds, it is somebody, nobody or a mistake."""
    for text in (header, "Basic " + header):
        assert _basic().identify(text).user in {None, "ann"}


@pytest.mark.parametrize("header", _MALFORMED)
def test_what_is_malformed_is_not_checked(header: str) -> None:
    """Also where every password is right: a user's name with a line end would forge a header."""
    identity = BasicAuthenticator(lambda _user, _password: True, realm="here").identify(header)

    assert identity.user is None
    assert identity.has_wrong_credentials


def test_a_password_file_is_asked_once_and_followed(tmp_path: Path) -> None:
    """The whole of it: checked, remembered, and out once deleted."""
    path = tmp_path / "htpasswd"
    path.write_bytes(b"ann:" + bcrypt.hashpw(b"right:one", bcrypt.gensalt(4)))
    now = [0.0]
    door = auth_identity.from_passwords(path, realm="here", clock=lambda: now[0])

    assert door.identify(_RIGHT).user == "ann"
    assert door.identify(_WRONG).user is None
    path.write_bytes(b"")
    assert door.identify(_RIGHT).user == "ann"
    now[0] = 0.5
    assert door.identify(_RIGHT).user is None


def test_an_embedding_program_gives_a_function_an_authenticator_or_nothing() -> None:
    """A function is asked for user and password; nothing is an open registry."""
    own = OpenAuthenticator()

    assert auth_identity.authenticator(own) is own
    assert isinstance(auth_identity.authenticator(None), OpenAuthenticator)
    assert auth_identity.authenticator(_check, realm="here").identify(_RIGHT).user == "ann"
    assert _passes(
        auth_identity.authenticator(_check, realm="here", anonymous="pull").identify(None), "pull"
    )


# ---- rules

_RULES = AccessRules(
    [
        AccessGrant(("ann",), ("quay.io/podman/*",), frozenset({"pull", "push"})),
        AccessGrant(("anonymous",), ("quay.io/open/*",), auth_rules.PULL),
    ]
)
_OPEN = Repository("quay.io/open/app")


def _ruled(anonymous: Anonymous = "pull", rules: AccessRules | None = _RULES) -> BasicAuthenticator:
    return BasicAuthenticator(
        lambda *_: True, realm="here", anonymous=anonymous, rules=lambda: rules
    )


def test_a_user_has_what_the_rules_give_him_where_they_give_it() -> None:
    """Known and not allowed is forbidden, and no other password is asked for."""
    ann = _ruled().identify(_RIGHT)

    ann.require("push", _REPOSITORY)
    ann.require("pull", _OPEN)
    with pytest.raises(Forbidden):
        ann.require("push", _OPEN)
    with pytest.raises(Forbidden):
        ann.require("delete", _REPOSITORY)
    with pytest.raises(Forbidden):
        ann.require("delete")


def test_who_has_a_password_and_no_right_may_log_in() -> None:
    """The password is right: to say that it is wrong would send him after another."""
    carl = _ruled("none").identify(_header("carl", "any"))

    carl.require_access()
    with pytest.raises(Forbidden):
        carl.require("pull", _REPOSITORY)


def test_a_stranger_has_what_the_rules_give_anybody() -> None:
    """Where he may have anything; elsewhere a password is asked for."""
    nobody = _ruled().identify(None)

    nobody.require_access()
    assert not _passes(nobody, "pull")
    nobody.require("pull", _OPEN)
    with pytest.raises(Unauthenticated):
        nobody.require("push", _OPEN)


def test_rules_give_no_stranger_what_is_not_open_at_all() -> None:
    """`auth.anonymous` bounds it."""
    assert _ruled("none").identify(None).rights == frozenset()
    assert not _enters(_ruled("none").identify(None))


def test_where_rules_give_strangers_nothing_they_are_asked_for_a_password() -> None:
    """On `/v2/` too, although pulls are open in principle."""
    assert not _enters(_ruled("pull", AccessRules([])).identify(None))


def test_rules_are_those_of_the_moment() -> None:
    """A right that is taken away is gone with the next request, and one that is given is there."""
    now: list[AccessRules | None] = [None]
    basic = BasicAuthenticator(
        lambda *_: True, realm="here", anonymous="pull", rules=lambda: now[0]
    )
    before = basic.identify(_RIGHT).rights_class
    assert basic.identify(_RIGHT).may("delete", _REPOSITORY)
    assert basic.identify(None).may("pull", _REPOSITORY)

    now[0] = _RULES

    assert not basic.identify(_RIGHT).may("delete", _REPOSITORY)
    assert not basic.identify(None).may("pull", _REPOSITORY)
    assert before != basic.identify(_RIGHT).rights_class


def test_without_rules_every_user_is_of_one_class_and_strangers_of_another() -> None:
    """Who may do everything, who may pull, who may do nothing."""
    known = [_ruled(rules=None).identify(_header(user, "x")).rights_class for user in ("a", "b")]
    strangers = [
        _ruled("none", None).identify(None).rights_class,
        _ruled("pull", None).identify(None).rights_class,
    ]

    assert known[0] == known[1]
    assert len({known[0], *strangers}) == 3
