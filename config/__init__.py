"""The configuration of the appliance. Only this package reads variables, flags and the YAML file.

`load` builds `Settings` from flags, environment and file. `check` verifies that the files that the
settings name can be used. `dump` and `resolved` pass the settings from `entrepot serve` to the
programs that it starts.
"""

from config.address import Address
from config.checks import certificate_problems, check, read_secret, remarks
from config.credential import Credential
from config.environment import is_image
from config.errors import ConfigError, Problem, Unreadable
from config.files import moved, named_files
from config.follow import Rights, read_rights, rights
from config.handover import dump, resolved
from config.loader import Loaded, Places, examine, load
from config.pull_secret import PullSecret
from config.pull_secret import parse as parse_pull_secret
from config.schema import Settings
from config.show import shown_settings, usage
from config.upstreams import UpstreamSet, UpstreamValues, upstream_defaults, upstreams_in_force

__all__ = [
    "Address",
    "ConfigError",
    "Credential",
    "Loaded",
    "Places",
    "Problem",
    "PullSecret",
    "Rights",
    "Settings",
    "Unreadable",
    "UpstreamSet",
    "UpstreamValues",
    "certificate_problems",
    "check",
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
