"""What TensorRT demands of a Q/DQ graph, and what its parser does not tell: rules over an ONNX graph.

The parser refuses some mistakes with a poor message and takes others in silence (a weight quantized along
the wrong axis, Q/DQ between a convolution and its Relu): then the engine is merely slow or large. A dynamic
batch is no mistake: `engine_from_onnx` gives the builder the profile that it needs.
"""

from typing import TYPE_CHECKING

from edgepress.errors import ProofError
from optimize.qdq_graph import QdqGraph
from optimize.qdq_number_rules import NUMBER_RULES
from optimize.qdq_placement_rules import PLACEMENT_RULES

if TYPE_CHECKING:
    import onnx


def lint_qdq(model: "onnx.ModelProto", *, left_in_float: frozenset[str] = frozenset()) -> None:
    """Check a Q/DQ graph against TensorRT's rules.

    Args:
        model: With its weights.
        left_in_float: Names of the weighted layers that are not to be quantized; all others must be.

    Raises:
        ProofError: A rule is broken; the first few findings are listed.
    """
    graph = QdqGraph.of(model, left_in_float)
    findings = [finding for rule in (*NUMBER_RULES, *PLACEMENT_RULES) for finding in rule(graph)]
    if findings:
        raise ProofError(
            f"The Q/DQ graph breaks {len(findings)} of TensorRT's rules: {'; '.join(findings[:3])}. "
            "Optimize the model anew."
        )
