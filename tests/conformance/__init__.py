"""The conformance of the bridge's WebSocket with RFC 6455, by the cases of the Autobahn test suite."""
