"""Make the authenticator of `auth.htpasswd` from the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from entrepot.config.schema import HtpasswdSettings, Settings
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.auth import basic
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.htpasswd import Htpasswd
from entrepot.registry.challenges import AuthChallenge
from entrepot.registry.followed_rights import Rights, users_of
from entrepot.registry.server.limit_reports import LimitReports
from entrepot.runtime.reloading_file import Snapshot
from entrepot.runtime.run_names import PASSWORDS


@dataclass(frozen=True, slots=True)
class PasswordLogins:
    """A `PasswordLogins` holds the settings and objects from which it makes an authenticator."""

    settings: Settings
    htpasswd: HtpasswdSettings
    rights: Callable[[], Snapshot[Rights]]
    invalidation: Invalidation
    limited: LimitReports

    def authenticator(
        self,
        challenge: AuthChallenge | None = None,
        opened: Callable[[Htpasswd], None] = lambda _: None,
    ) -> BasicAuthenticator:
        """Return the authenticator of passwords; *opened* receives the new `Htpasswd`.

        *challenge* replaces the Basic challenge in 401 responses. Raises: OSError, InvalidHtpasswd.
        """

        def watch(file: Htpasswd) -> None:
            self.invalidation.watch(file)
            opened(file)

        return basic.from_passwords(
            self.htpasswd.path,
            realm=self.htpasswd.realm,
            anonymous=self.settings.auth.anonymous,
            users=lambda: users_of(self.rights()),
            rules=lambda: self.rights().value.rules,
            kept=self.settings.run / PASSWORDS,
            watch=watch,
            refused=lambda: self.limited("logins"),
            challenge=challenge,
        )
