"""One table for every runtime: the ONNX graph is calibrated, the TFLite graph takes its ranges from it."""

import logging
from collections.abc import Iterable
from importlib.util import find_spec

from edgepress.artifact import Artifact, Format
from edgepress.dataset import Dataset
from edgepress.manifest import Manifest
from edgepress.progress import Progress, silent
from optimize.calibration.correspondence import Correspondence, correspondence
from optimize.calibration.onnx_calibration import calibrate_onnx, tensors_of_onnx_file
from optimize.calibration.pictures import CalibrationPictures
from optimize.calibration.quantized_tensors import QuantizedTensors
from optimize.calibration.stability import warn_if_unstable
from optimize.calibration.table import CALIBRATION, CalibrationTable, GraphCalibration, Origin, Sample
from optimize.calibration.tflite_calibration import TfliteTensors, calibrate_tflite, tensors_of_tflite
from optimize.improvement.sources import Sources

_LOGGER = logging.getLogger(__name__)
_ONNX_PACKAGES = ("onnx", "onnxruntime")


def calibrated_table(
    manifest: Manifest,
    drawn: Dataset,
    sample: Sample,
    wanted: Iterable[Artifact],
    sources: Sources,
    progress: Progress = silent,
) -> CalibrationTable:
    """The table that holds these artifacts; what was found out from the same pictures and method is kept.

    Args:
        manifest: Of the artifacts. The table is read from and saved to its folder.
        drawn: The pictures.
        sample: Their description, and the method.
        wanted: Exported FP32 artifacts, whole.
        sources: Their files, equalized if `sample` says so.
        progress: Told "calibrate NAME" after each picture.

    Raises:
        InputError: A picture that cannot be used, a file that cannot be read, or a table that was changed.
        ProofError: An activation is not finite.
    """
    table = _usable_table(manifest, sample)
    pictures = CalibrationPictures(drawn, manifest.model.preprocessing)
    for artifact in wanted:
        if artifact.sha256 in table.graphs:
            continue
        base = _base(manifest) if artifact.format is Format.TFLITE else None
        if base is not None and base.sha256 not in table.graphs:
            manifest.verify(base)
            table = _with_onnx(table, manifest, base, sources, pictures, progress)
        if artifact.format is Format.ONNX:
            table = _with_onnx(table, manifest, artifact, sources, pictures, progress)
            continue
        found = _TfliteCalibration(sources, artifact, pictures, sample, progress).run(base, table)
        table = table.with_graph(artifact.sha256, found)
        table.save(manifest.folder)
    return table


def warn_of_known(manifest: Manifest, sample: Sample, wanted: Iterable[Artifact]) -> None:
    """Say again what was said of ranges when they were measured: a table on disk is used without a word.

    Args:
        manifest: Its folder has the table, or none.
        sample: The pictures and the method; a table of others will not be used.
        wanted: Exported FP32 artifacts whose ranges are used.
    """
    table = CalibrationTable.known(manifest.folder)
    if table is None or (table.model, table.sample) != (manifest.model.fingerprint, sample):
        return
    graphs = ((artifact.id, table.graphs.get(artifact.sha256)) for artifact in wanted)
    found = [(graph.origin.artifact if graph.origin else name, graph) for name, graph in graphs if graph]
    for name, graph in dict(found).items():  # ranges that were taken from another graph are judged there
        warn_if_unstable(name, graph.stability)


def _usable_table(manifest: Manifest, sample: Sample) -> CalibrationTable:
    table, model = CalibrationTable.load(manifest.folder), manifest.model.fingerprint
    if table is not None and (table.model, table.sample) == (model, sample):
        return table
    if table is not None:
        why = "of another model" if table.model != model else "from other pictures or by another method"
        _LOGGER.info("%s is %s: it is made anew.", manifest.folder / CALIBRATION, why)
    return CalibrationTable(model, sample, {})


def _base(manifest: Manifest) -> Artifact | None:
    """The exported ONNX file that other graphs take their ranges from; None if there is none that runs."""
    found = manifest.baseline(Format.ONNX)
    if found is None or manifest.path_of(found).is_dir():
        return None
    missing = [package for package in _ONNX_PACKAGES if find_spec(package) is None]
    if missing:
        _LOGGER.warning("TFLite is calibrated on its own graph: %s is not installed.", missing[0])
        return None
    return found


def _with_onnx(
    table: CalibrationTable,
    manifest: Manifest,
    artifact: Artifact,
    sources: Sources,
    pictures: CalibrationPictures,
    progress: Progress,
) -> CalibrationTable:
    inputs = pictures.inputs(artifact.interface)
    path, method = sources.path_of(artifact), table.sample.method
    found = calibrate_onnx(path, inputs, pictures.names, method, progress)
    warn_if_unstable(artifact.id, found.stability)
    table = table.with_graph(artifact.sha256, found)
    table.save(manifest.folder)
    return table


class _TfliteCalibration:
    """Calibrates one TFLite file: from the ONNX file's ranges where these are proven to hold, else itself."""

    def __init__(
        self,
        sources: Sources,
        artifact: Artifact,
        pictures: CalibrationPictures,
        sample: Sample,
        progress: Progress,
    ) -> None:
        self._sources = sources
        self._artifact = artifact
        self._path = sources.path_of(artifact)
        self._pictures = pictures
        self._sample = sample
        self._progress = progress

    def run(self, base: Artifact | None, table: CalibrationTable) -> GraphCalibration:
        """Ranges of the file; `table` holds those of `base`."""
        if base is None:
            found = self._measured(None)
            warn_if_unstable(self._artifact.id, found.stability)
            return found
        tensors, exact = tensors_of_tflite(self._path), table.graph_of(base.sha256)
        proven = self._proven(base, tensors, exact)
        roles = tensors_of_onnx_file(self._sources.path_of(base))
        taken = _taken(proven, tensors.quantized, roles)
        missing = {name for name in tensors.indices if name not in taken}
        missing |= tensors.widths.keys() - proven.channel_means.keys()
        measured = self._measured(frozenset(missing)) if missing else GraphCalibration({}, {})
        return _joined(taken, proven, exact, measured, base)

    def _measured(self, only: frozenset[str] | None) -> GraphCalibration:
        inputs = self._pictures.inputs(self._artifact.interface)
        method = self._sample.method
        return calibrate_tflite(self._path, inputs, self._pictures.names, method, self._progress, only)

    def _proven(self, base: Artifact, tensors: TfliteTensors, exact: GraphCalibration) -> Correspondence:
        onnx_input, tflite_input = self._pictures.proof(base.interface, self._artifact.interface)
        onnx_path = self._sources.path_of(base)
        return correspondence(onnx_path, onnx_input, self._path, tflite_input, tensors, exact)


def _taken(proven: Correspondence, quantized: QuantizedTensors, roles: QuantizedTensors) -> dict[str, str]:
    """TFLite tensor → ONNX tensor whose range it takes: its own source, if proven and as clippable there."""
    found: dict[str, str] = {}
    for name, source in quantized.source.items():
        if source not in proven.differences:
            continue
        same_role = (source in quantized.clippable) == (roles.source.get(source, source) in roles.clippable)
        if same_role:
            found[name] = source
    return found


def _joined(
    taken: dict[str, str],
    proven: Correspondence,
    exact: GraphCalibration,
    measured: GraphCalibration,
    base: Artifact,
) -> GraphCalibration:
    names = sorted(taken)
    own = sorted(measured.ranges.keys() - taken.keys())
    origin = Origin(
        artifact=base.id,
        taken=tuple(names),
        largest_difference=max((proven.differences[taken[name]] for name in names), default=0.0),
        measured=tuple(own),
    )
    joined = GraphCalibration(
        ranges={**measured.ranges, **{name: exact.ranges[taken[name]] for name in names}},
        observed={**measured.observed, **{name: exact.observed[taken[name]] for name in names}},
        channel_means={**measured.channel_means, **proven.channel_means},
        stability=exact.stability,
        origin=origin,
    )
    _LOGGER.info(
        "tflite: %d of %d ranges are those of %s (values equal to %.1e of the spread), %d measured here",
        len(names),
        len(joined.ranges),
        base.id,
        origin.largest_difference,
        len(own),
    )
    return joined
