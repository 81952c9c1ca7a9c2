"""Stage 0: pictures become a Keras classifier, by transfer learning from VGG16's convolutions."""
