"""What Triton Inference Server needs: a model repository, checked against its schema."""
