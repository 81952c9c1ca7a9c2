"""edgepress presses a Keras CNN for the edge: export, quantize, build engines, measure, prove.

The functions here are the commands of the same names; see `edgepress.api`.
"""

__version__ = "0.1.0"

from edgepress.api import benchmark, bundle, export, optimize, train

__all__ = ["benchmark", "bundle", "export", "optimize", "train"]
