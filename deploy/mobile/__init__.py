"""What a phone needs: one TFLite file that describes itself."""
