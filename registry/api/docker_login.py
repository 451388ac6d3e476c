"""How the docker daemon logs in where strangers may pull.

After a Basic challenge at `/v2/` the daemon sends no request without a password ("no basic auth
credentials"), so strangers could not pull; without a challenge it sends no password, so users
could not push. A Bearer challenge works for both: the daemon asks its realm for a token, with the
password that it has or with none (docker distribution, "Token Authentication Specification"). The
token is the credential that was sent, in the same letters: it is checked like a password with each
request, nothing is kept of it, and a password that is changed ends it.
"""

from __future__ import annotations

import re
from typing import Final

import falcon

from entrepot.registry.api import router
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.auth.identity import Identity, credential
from entrepot.registry.errors import Unauthenticated

SCHEME: Final = "X-Client-Scheme"
"""What HAProxy says of a client that came by TLS, to us or to a proxy before us."""

_CLIENTS: Final = ("docker/", "Docker-Client/")
"""The daemon, and the command `docker manifest`, which shares its client."""
_NOBODY: Final = "Og=="
"""The base64 of no user and no password."""
_SERVICE: Final = "entrepot"
# RFC 9110, 4.2.3: what a host may hold; anything else could end the quotes of the challenge
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}", re.ASCII)


def is_needed(req: falcon.Request, identity: Identity) -> bool:
    """Return whether the daemon asks as a stranger who may pull."""
    is_docker = (req.user_agent or "").startswith(_CLIENTS)
    is_open = identity.user is None and identity.challenge is not None and bool(identity.rights)
    return is_docker and is_open and not identity.mistaken and bool(_HOST.fullmatch(req.netloc))


def challenge(req: falcon.Request) -> str:
    """Return the WWW-Authenticate header that names the token's realm."""
    scheme = req.get_header(SCHEME) or req.forwarded_scheme
    realm = f"{scheme}://{req.netloc}{router.DOCKER_LOGIN}"
    return f'Bearer realm="{realm}",service="{_SERVICE}"'


class DockerLoginResource:
    """`/v2/token`: a token for a password, or for none."""

    def __init__(self, authorization: Authorization) -> None:
        self._authorization = authorization

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send the token. Raises: Unauthenticated, for a login with a wrong password.

        A login asks for no scope. With one, a wrong password is refused by the request that needs a
        right, for the daemon repeats a token that it did not get, for a minute. A daemon that pulls
        through a mirror sends the password that it has for Docker Hub: it pulls as a stranger.
        """
        identity = self._authorization.identify(req, resp)
        scopes = req.get_param_as_list("scope") or []
        is_stranger = identity.user is None
        if is_stranger and (not identity.rights or (identity.mistaken and not scopes)):
            raise Unauthenticated(identity.challenge or "")
        sent = credential(req.get_header("Authorization") or "") or _NOBODY
        token = _NOBODY if is_stranger and all(map(_is_pull, scopes)) else sent
        resp.set_header("Cache-Control", "no-store")
        resp.media = {"token": token}


def _is_pull(scope: str) -> bool:
    """Return whether a scope, `repository:NAME:pull`, asks for nothing but pulls."""
    return set(scope.rpartition(":")[2].split(",")) <= {"pull"}
