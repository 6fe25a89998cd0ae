"""What may leave, decided without any I/O."""
