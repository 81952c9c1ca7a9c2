"""Stage 1: a Keras model becomes portable files (SavedModel, ONNX, TFLite), each proven against Keras."""
