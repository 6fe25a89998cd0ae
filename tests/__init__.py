"""The tests. Each module of the package has a test file, named after it."""
