"""The tests; one file a module, named after it."""
