"""What a model consists of, layer by layer, read out of whatever form it has."""
