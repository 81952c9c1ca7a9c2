"""In which ways a file may rightly be run for a target, and whether this machine is like its devices."""

import platform

from deploy.bundle_target import BundleTarget, Delivery
from deploy.executions import Place, Ways, onnx_ways
from deploy.tflite_executions import tflite_ways
from edgepress.artifact import Artifact, Format
from edgepress.isa import host_isa, takes

_ELSEWHERE = {Delivery.BUILD, Delivery.PLANS}


def ways_of(target: BundleTarget, source: Artifact) -> Ways:
    """The ways for a file, an ONNX or TFLite one."""
    if source.format is Format.TFLITE:
        return tflite_ways()
    if target.delivery in _ELSEWHERE:
        return onnx_ways(Place.GPU)
    return onnx_ways(Place.LIKE_HERE if _has_isa(target) else Place.OTHER_CPU)


def runs_here(target: BundleTarget) -> bool:
    """Whether a bundle for the target can be run on this machine; a GPU or a server is not counted on."""
    if target.delivery in {*_ELSEWHERE, Delivery.REPOSITORY}:
        return False
    return (not target.machines or platform.machine() in target.machines) and _has_isa(target)


def _has_isa(target: BundleTarget) -> bool:
    here = host_isa()
    return not target.isas or any(takes(here, isa) for isa in target.isas)
