"""The transformers that come with the bridge; found by entry point, like anybody's."""
