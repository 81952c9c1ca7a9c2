"""One file per runtime; each imports its framework inside functions, and none imports another."""
