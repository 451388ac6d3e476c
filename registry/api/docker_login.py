"""Let the docker daemon log in where anonymous clients may pull.

After a Basic challenge from `/v2/`, dockerd without a password fails ("no basic auth credentials"),
so anonymous clients could not pull. Without a challenge dockerd sends no password, so users could
not push. A Bearer challenge works for pulls and pushes: dockerd requests a token from the URL in
the challenge, with its password if dockerd has one (docker distribution, "Token Authentication
Specification"). The token that this module issues is the base64 credential that the daemon sent.
The registry checks this token like a password with each request. So the registry stores no tokens,
and a token is invalid as soon as the password changes.
"""

from __future__ import annotations

from typing import Final

import falcon

from entrepot.registry.api import router, scopes
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.auth.basic import credential
from entrepot.registry.auth.identity import Identity
from entrepot.registry.challenges import BearerChallenge
from entrepot.registry.errors import Unauthenticated

_CLIENTS: Final = ("docker/", "Docker-Client/")
"""The User-Agents of dockerd and of the command `docker manifest` begin with these prefixes."""
_ANONYMOUS_CREDENTIAL: Final = "Og=="
"""The base64 form of an empty user and an empty password."""
_SERVICE: Final = "entrepot"


def is_needed(req: falcon.Request, identity: Identity) -> bool:
    """Return whether to send a Bearer challenge to a docker client that sent no password.

    A Bearer challenge is needed if anonymous clients may pull and the registry would otherwise send
    a Basic challenge.
    """
    is_docker = (req.user_agent or "").startswith(_CLIENTS)
    # A challenge that is not a text is a Bearer challenge already.
    is_open = (
        identity.user is None and isinstance(identity.challenge, str) and bool(identity.rights)
    )
    return is_docker and is_open and not identity.has_wrong_credentials and bool(scopes.host(req))


def challenge(req: falcon.Request) -> str:
    """Return the WWW-Authenticate header with the URL that issues tokens."""
    made = BearerChallenge("", _SERVICE, router.DOCKER_LOGIN, req.forwarded_scheme, is_own=True)
    return made.header(scopes.challenged(req, None))


class DockerLoginResource:
    """`/v2/token` issues a token for a password, or for an anonymous client."""

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send a token to the docker daemon.

        Raises: Unauthenticated if `docker login` sends a wrong password, or if anonymous clients
        have no rights. A token request of `docker login` has no scope. For a token request with a
        scope, the response is a token even if the password is wrong, because dockerd would retry a
        rejected token request for a minute. If a later request with that token needs the rights of
        a user, the registry rejects that request. A daemon that uses this registry as a mirror of
        Docker Hub sends its Docker Hub password and receives the token of an anonymous client.
        """
        identity = self._authorization.identify(req, resp)
        scopes = req.get_param_as_list("scope") or []
        is_anonymous = identity.user is None
        if is_anonymous and (
            not identity.rights or (identity.has_wrong_credentials and not scopes)
        ):
            raise Unauthenticated(identity.challenge or "")
        sent = credential(req.get_header("Authorization") or "") or _ANONYMOUS_CREDENTIAL
        token = _ANONYMOUS_CREDENTIAL if is_anonymous and all(map(_is_pull, scopes)) else sent
        resp.set_header("Cache-Control", "no-store")
        resp.media = {"token": token}


def _is_pull(scope: str) -> bool:
    """Return whether a scope such as `repository:NAME:pull` requests only the action pull."""
    return set(scope.rpartition(":")[2].split(",")) <= {"pull"}
