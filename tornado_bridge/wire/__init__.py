"""RFC 6455 and RFC 7692 without any I/O."""
