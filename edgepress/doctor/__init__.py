"""What this machine can do for edgepress, and what is missing for the rest: tried, not assumed."""
