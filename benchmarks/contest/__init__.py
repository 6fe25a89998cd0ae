"""The contest: the bridge beside servers written with other libraries and in other languages."""
