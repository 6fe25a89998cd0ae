"""The environment of a server: which variables set something, and which only look as if they did."""

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

PREFIX = "TORNADO_BRIDGE_"

# Where `tail` finds its API key, and `serve` its file of settings.
KEY_VARIABLE = "TORNADO_BRIDGE_API_KEY"
CONFIG_VARIABLE = "TORNADO_BRIDGE_CONFIG"

# Variables with these beginnings belong to plugins and to the tests.
_OF_OTHERS = ("TORNADO_BRIDGE_PLUGIN_", "TORNADO_BRIDGE_TEST_")

# Kubernetes sets these in every pod beside a service whose name begins with "tornado-bridge". One of them,
# TORNADO_BRIDGE_PORT, is also a setting, so its value decides.
_LINK_NAME = re.compile(
    r"TORNADO_BRIDGE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
).fullmatch
_LINK_WITH_ADDRESS = re.compile(r"TORNADO_BRIDGE_(\w+_)?PORT=(tcp|udp|sctp)://.*", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables that begin with TORNADO_BRIDGE_.

    `settings` has the text of each setting by its name, `unknown` the variables that nothing reads, each with the
    nearest known name, and `service_links` the variables that Kubernetes has set.
    """

    settings: Mapping[str, str]
    unknown: Mapping[str, str | None]
    service_links: Sequence[str]


def environment_variable(setting: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + setting.upper()


def read(environment: Mapping[str, str], settings: Collection[str]) -> Environment:
    """Sort the variables of an environment, for the names of the settings."""
    known = {environment_variable(name): name for name in settings}
    others = {KEY_VARIABLE, CONFIG_VARIABLE}
    found: dict[str, str] = {}
    unknown: dict[str, str | None] = {}
    links: list[str] = []
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in others or name.startswith(_OF_OTHERS):
            continue
        if _LINK_NAME(name) or _LINK_WITH_ADDRESS(f"{name}={environment[name]}"):
            links.append(name)
        elif name in known:
            found[known[name]] = environment[name]
        else:
            unknown[name] = _nearest(name, {*known, *others})
    return Environment(found, unknown, tuple(links))


def _nearest(name: str, known: Collection[str]) -> str | None:
    # Without the prefix, which would make all of them alike.
    endings = [other.removeprefix(PREFIX) for other in known]
    found = difflib.get_close_matches(name.removeprefix(PREFIX), endings, 1)
    return PREFIX + found[0] if found else None
