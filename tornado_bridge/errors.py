"""The exceptions that an embedding application may catch.

BridgeError
├── ConfigurationError      invalid settings, key file or plugin: the server does not start (exit status 2)
│   └── PluginError         an invalid plugin; names its distribution
└── InvalidEvent            an invalid payload; a plugin raises it, and only that event is dropped
"""


class BridgeError(Exception):
    """The base of every exception that this package raises on purpose."""


class ConfigurationError(BridgeError):
    """Settings, a key file or a plugin that cannot be used. The text is one sentence for the operator."""


class PluginError(ConfigurationError):
    """A plugin that cannot be used.

    `plugin` is the name of the entry point, file or object. `distribution` is the installed distribution that it came
    from, with its version, or the path of the file. `reason` is one clause.
    """

    def __init__(self, plugin: str, distribution: str, reason: str) -> None:
        super().__init__(f"plugin {plugin!r} of {distribution}: {reason}")
        self.plugin = plugin
        self.distribution = distribution
        self.reason = reason


class InvalidEvent(BridgeError):
    """An event with an invalid payload. `reason` names the member and the rule that it breaks, never its value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
