"""The conformance kit for plugin authors: the tests that every plugin must pass, and a bridge with a client."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tornado_bridge.testing.bridge_client import BridgeClient
    from tornado_bridge.testing.suite import PluginSuite

__all__ = ["BridgeClient", "PluginSuite"]

_MODULES = {"BridgeClient": "bridge_client", "PluginSuite": "suite"}


def __getattr__(name: str) -> object:
    # pytest imports this package, with its fixtures, in every environment that has the bridge installed. The audit and
    # the server behind these two names are loaded only by the tests that use them.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
