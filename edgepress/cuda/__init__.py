"""CUDA's runtime API through cuda-python: each return code checked, nothing left behind."""
