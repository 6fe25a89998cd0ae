"""Evidence about what a plugin lets out."""
