"""Stage 4: artifacts and evidence become a bundle for one target, which verifies itself on the device."""
