"""Where a Keras classifier comes from: VGG16 with weights, the embedded digits network, a user's file."""
