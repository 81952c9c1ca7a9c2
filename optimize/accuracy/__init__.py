"""What quantization costs in accuracy: layer by layer, and how much of it fits a budget."""
