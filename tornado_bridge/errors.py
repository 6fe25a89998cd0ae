"""What can go wrong, as exceptions that an embedding application may catch.

BridgeError
├── ConfigurationError      unusable settings, key file or plugin: the start is refused (exit status 2)
│   └── PluginError         a plugin that is wrong in any way; names its distribution
└── InvalidEvent            an event that may not be relayed; raised by a plugin, costs that event alone
"""


class BridgeError(Exception):
    """Any failure that this package raises on purpose."""


class ConfigurationError(BridgeError):
    """Settings, a key file or a plugin that cannot be used; its text is one sentence for the operator."""


class PluginError(ConfigurationError):
    """A plugin that may not be used.

    `plugin` is the entry point's or object's name, `distribution` the installed distribution it came from.
    """

    def __init__(self, plugin: str, distribution: str, reason: str) -> None:
        super().__init__(f"plugin {plugin!r} of {distribution}: {reason}")
        self.plugin = plugin
        self.distribution = distribution
        self.reason = reason


class InvalidEvent(BridgeError):
    """An event whose payload breaks its contract; `reason` names the member and the rule, never the value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
