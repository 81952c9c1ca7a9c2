"""Stage 2: artifact in, smaller or faster artifact out: calibration, FP16, INT8, TensorRT engines."""
