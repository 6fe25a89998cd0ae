"""Tests of the tree itself: imports, documents, the distribution."""
