"""A bundle as one file that can be trusted: archive, signature, safe unpacking."""
