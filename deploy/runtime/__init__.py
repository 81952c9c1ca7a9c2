"""What a bundle runs on the device: scripts that are copied into it and need no edgepress there."""
