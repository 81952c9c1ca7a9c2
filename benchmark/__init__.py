"""Stage 3: artifacts in, evidence out: latency, memory and accuracy against the FP32 baseline; reports."""
