"""The JSON Schema files of everything that goes over the WebSocket."""
