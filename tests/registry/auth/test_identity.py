"""The authenticators identify clients and determine their rights."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.refs import Repository
from entrepot.registry.auth import basic as auth_basic
from entrepot.registry.auth import rules as auth_rules
from entrepot.registry.auth.basic import Anonymous, BasicAuthenticator
from entrepot.registry.auth.identity import Action, Identity, OpenAuthenticator
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
    """Return True if `require` permits *action*; assert that a rejection is a challenge."""
    return _challenged(lambda: identity.require(action, _REPOSITORY)) is None


def _enters(identity: Identity) -> bool:
    """Return True if `require_access` accepts the client; a rejection must be a challenge."""
    return _challenged(identity.require_access) is None


def _challenged(act: Callable[[], None]) -> str | None:
    try:
        act()
    except Unauthenticated as error:
        return _ours(str(error.challenge))
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
    "Basic b25seXVzZXI=",  # the header encodes "onlyuser", without a colon
    "Basic /////w==",  # these bytes are not UTF-8
    "Basic YTpiCg==",  # the header encodes a:b and a line feed
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
def test_with_a_password_file_only_known_users_are_accepted(
    header: str | None,
    user: str | None,
    pulls: bool,  # noqa: FBT001 - a column of the test's table
    enters: bool,  # noqa: FBT001
) -> None:
    """With a password file, only its users can use `/v2/` and pull; other clients get a challenge.

    No Authorization header of a client causes a 500.
    """
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
def test_a_credential_that_haproxy_cannot_decode_is_malformed(header: str) -> None:
    """A worker rejects a credential that HAProxy cannot decode.

    HAProxy counts wrong passwords for each user. It cannot read the user in such a credential, so
    it would not count guesses in this form.
    """
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
def test_with_anonymous_pull_all_clients_pull_but_a_wrong_password_fails_the_login(
    header: str | None,
    user: str | None,
    enters: bool,  # noqa: FBT001 - a column of the test's table
) -> None:
    """With anonymous pull, a client with a wrong password gets 401 on `/v2/` but can pull.

    `podman login` uses `/v2/` to check a password. dockerd sends its Docker Hub password, which is
    wrong here, with each pull.
    """
    identity = _basic("pull").identify(header)

    assert user == identity.user
    assert _passes(identity, "pull")
    assert enters == _enters(identity)


@pytest.mark.parametrize("anonymous", ["none", "pull"])
@pytest.mark.parametrize(
    ("header", "is_greeted"),
    [(_RIGHT, True), (None, False), ("", False), (_NOBODY, False), (_WRONG, False)],
)
def test_the_version_check_challenges_anonymous_clients_if_there_are_passwords(
    anonymous: Anonymous,
    header: str | None,
    is_greeted: bool,  # noqa: FBT001 - a column of the test's table
) -> None:
    """If passwords are configured, `/v2/` challenges anonymous clients, even if they may pull.

    Clients send a password only after a challenge on `/v2/`.
    """
    identity = _basic(anonymous).identify(header)

    if is_greeted:
        identity.require_login()
    else:
        with pytest.raises(Unauthenticated):
            identity.require_login()


@pytest.mark.parametrize("anonymous", ["none", "pull"])
@pytest.mark.parametrize("header", [_RIGHT, _WRONG, _NOBODY])
def test_a_bearer_token_with_the_same_base64_is_the_same_credential(
    anonymous: Anonymous, header: str
) -> None:
    """A Bearer token that is the base64 of `user:password` is accepted like Basic credentials.

    The token endpoint for Docker issues such tokens.
    """
    basic = _basic(anonymous)
    bearer = header.replace("Basic", "Bearer").replace("basic", "Bearer")

    assert bearer.startswith("Bearer ")
    assert basic.identify(bearer) == basic.identify(header)


@pytest.mark.parametrize("anonymous", ["none", "pull"])
@pytest.mark.parametrize("action", ["push", "delete"])
def test_an_anonymous_push_or_delete_is_challenged(anonymous: Anonymous, action: Action) -> None:
    """An anonymous push or delete gets 401 with a challenge, so that the client can log in."""
    basic = _basic(anonymous)

    assert _passes(basic.identify(_RIGHT), action)
    assert not _passes(basic.identify(None), action)
    assert not _passes(basic.identify(_WRONG), action)


def test_a_known_user_without_the_right_is_forbidden() -> None:
    """A logged-in user without the needed right gets 403.

    After a 401, the client would ask the user for another password.
    """
    with pytest.raises(Forbidden):
        Identity("ann", frozenset({"pull"}), _CHALLENGE).require("push", _REPOSITORY)


@pytest.mark.parametrize("header", [None, "", _RIGHT, _WRONG, *_MALFORMED])
def test_an_open_registry_accepts_every_client(header: str | None) -> None:
    """A registry without authentication accepts every client, whatever credentials it sends.

    Docker distribution without `auth` also accepts every client.
    """
    identity = OpenAuthenticator().identify(header)

    identity.require_access()
    identity.require("pull", _REPOSITORY)
    identity.require("push", _REPOSITORY)
    assert identity.user is None


def test_a_realm_cannot_break_its_header() -> None:
    """Quotes in the configured realm are escaped in WWW-Authenticate.

    Characters that a header cannot contain are replaced by a question mark.
    """
    basic = BasicAuthenticator(_check, realm='a "b"\\\r\nX: ü')

    with pytest.raises(Unauthenticated) as caught:
        basic.identify(None).require_access()

    assert caught.value.challenge == 'Basic realm="a \\"b\\"\\\\??X: ?"'


_TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


@given(_TEXT.filter(lambda user: ":" not in user), _TEXT)
def test_any_user_and_password_reach_the_check_unchanged(user: str, password: str) -> None:
    """The password check gets the user and the password exactly as the client sent them.

    A password can contain colons. User names and passwords can contain letters of any script.
    """
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
    """For any text in Authorization, the authenticator returns an identity without an error."""
    for text in (header, "Basic " + header):
        assert _basic().identify(text).user in {None, "ann"}


@pytest.mark.parametrize("header", _MALFORMED)
def test_malformed_credentials_are_not_checked(header: str) -> None:
    """Malformed credentials are rejected without a password check.

    The user name is sent in a response header, so a line break in the name could add a forged
    header.
    """
    identity = BasicAuthenticator(lambda _user, _password: True, realm="here").identify(header)

    assert identity.user is None
    assert identity.has_wrong_credentials


def test_password_file_results_are_cached_until_the_file_changes(tmp_path: Path) -> None:
    """After a change of the password file, cached results of checks are used for at most 0.5 s.

    If the change removes a user's line, the user's password is then rejected.
    """
    path = tmp_path / "htpasswd"
    path.write_bytes(b"ann:" + bcrypt.hashpw(b"right:one", bcrypt.gensalt(4)))
    now = [0.0]
    door = auth_basic.from_passwords(path, realm="here", clock=lambda: now[0])

    assert door.identify(_RIGHT).user == "ann"
    assert door.identify(_WRONG).user is None
    path.write_bytes(b"")
    assert door.identify(_RIGHT).user == "ann"
    now[0] = 0.5
    assert door.identify(_RIGHT).user is None


def test_an_embedding_program_passes_a_function_an_authenticator_or_none() -> None:
    """A program that embeds the registry passes a password function, an authenticator or None.

    With None, the registry is open to every client.
    """
    own = OpenAuthenticator()

    assert auth_basic.authenticator(own) is own
    assert isinstance(auth_basic.authenticator(None), OpenAuthenticator)
    assert auth_basic.authenticator(_check, realm="here").identify(_RIGHT).user == "ann"
    assert _passes(
        auth_basic.authenticator(_check, realm="here", anonymous="pull").identify(None), "pull"
    )


# ---- tests of the access rules

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


def test_a_user_has_the_rights_of_the_rules_in_their_repositories_only() -> None:
    """Access rules give a user rights in the repositories that the rules name.

    Any other request by this user gets 403.
    """
    ann = _ruled().identify(_RIGHT)

    ann.require("push", _REPOSITORY)
    ann.require("pull", _OPEN)
    with pytest.raises(Forbidden):
        ann.require("push", _OPEN)
    with pytest.raises(Forbidden):
        ann.require("delete", _REPOSITORY)
    with pytest.raises(Forbidden):
        ann.require("delete")


def test_a_user_without_any_right_can_log_in() -> None:
    """A user without any right from a rule can log in, but gets 403 for a pull.

    After a 401, the client would ask the user for another password.
    """
    carl = _ruled("none").identify(_header("carl", "any"))

    carl.require_access()
    with pytest.raises(Forbidden):
        carl.require("pull", _REPOSITORY)


def test_anonymous_rights_come_from_the_rules_for_anonymous() -> None:
    """An anonymous client has the rights that access rules give to the user `anonymous`.

    Any request that these rules do not permit gets a challenge.
    """
    nobody = _ruled().identify(None)

    nobody.require_access()
    assert not _passes(nobody, "pull")
    nobody.require("pull", _OPEN)
    with pytest.raises(Unauthenticated):
        nobody.require("push", _OPEN)


def test_rules_give_anonymous_clients_nothing_if_anonymous_is_none() -> None:
    """With `auth.anonymous: none`, no access rule gives anonymous clients a right."""
    assert _ruled("none").identify(None).rights == frozenset()
    assert not _enters(_ruled("none").identify(None))


def test_anonymous_clients_without_any_right_are_challenged() -> None:
    """If no access rule gives anonymous clients a right, `/v2/` sends them a challenge.

    This holds even if `auth.anonymous` permits pulls, as in this test.
    """
    assert not _enters(_ruled("pull", AccessRules([])).identify(None))


def test_changed_rules_apply_to_the_next_request() -> None:
    """If access rules change, the next request is checked with the new rules.

    The rights class changes with the rules.
    """
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


def test_without_rules_all_users_share_one_rights_class() -> None:
    """Without access rules, all users share one rights class.

    Anonymous clients have another class, which depends on whether they can pull.
    """
    known = [_ruled(rules=None).identify(_header(user, "x")).rights_class for user in ("a", "b")]
    strangers = [
        _ruled("none", None).identify(None).rights_class,
        _ruled("pull", None).identify(None).rights_class,
    ]

    assert known[0] == known[1]
    assert len({known[0], *strangers}) == 3
