"""What every room shares: the nouns (artifact, manifest, target), data, preprocessing and runners."""

__version__ = "0.1.0"
