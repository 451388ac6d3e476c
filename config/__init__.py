"""Read the configuration of the appliance: flags, environment variables and the YAML file.

No other package reads settings from them. `load` builds `Settings`. `check` verifies that the
appliance can use the files that the settings name. `entrepot serve` writes the settings to a file
with `dump`, and the programs that it starts read this file with `resolved`.
"""

from entrepot.config.address import Address
from entrepot.config.checks import (
    certificate_problems,
    check,
    client_authority_problems,
    read_secret,
    remarks,
)
from entrepot.config.credential import SecretCredential
from entrepot.config.errors import ConfigError, Problem, Unreadable
from entrepot.config.files import moved, named_files
from entrepot.config.follow import FollowedRights, read_rights, rights
from entrepot.config.handover import dump, resolved
from entrepot.config.loader import DefaultPaths, Loaded, examine, load
from entrepot.config.pull_secret import ParsedPullSecret
from entrepot.config.pull_secret import parse as parse_pull_secret
from entrepot.config.schema import Settings
from entrepot.config.show import shown_settings, usage
from entrepot.config.sources.environment import is_image
from entrepot.config.upstreams import (
    UpstreamSet,
    UpstreamValues,
    upstream_defaults,
    upstreams_in_force,
)

__all__ = [
    "Address",
    "ConfigError",
    "DefaultPaths",
    "FollowedRights",
    "Loaded",
    "ParsedPullSecret",
    "Problem",
    "SecretCredential",
    "Settings",
    "Unreadable",
    "UpstreamSet",
    "UpstreamValues",
    "certificate_problems",
    "check",
    "client_authority_problems",
    "dump",
    "examine",
    "is_image",
    "load",
    "moved",
    "named_files",
    "parse_pull_secret",
    "read_rights",
    "read_secret",
    "remarks",
    "resolved",
    "rights",
    "shown_settings",
    "upstream_defaults",
    "upstreams_in_force",
    "usage",
]
