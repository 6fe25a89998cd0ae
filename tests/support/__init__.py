"""What the tests share: clients, servers, payloads, an independent oracle."""
