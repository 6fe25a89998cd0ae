"""Tests of the tree itself: its imports, its documents, its distribution."""
