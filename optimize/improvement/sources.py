"""The FP32 files that are calibrated and quantized: the exported ones, or equalized copies of them."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepress.artifact import Artifact, Format
from edgepress.files import require_disk, scratch_folder
from edgepress.manifest import Manifest
from edgepress.record import to_json
from optimize.improvement.equalization import Equalization, equalize
from optimize.improvement.improvement import Improvement
from optimize.improvement.onnx_network import onnx_network
from optimize.improvement.tflite_network import tflite_network

_LOGGER = logging.getLogger(__name__)
NETWORK_OF = {Format.ONNX: onnx_network, Format.TFLITE: tflite_network}


class Sources:
    """Gives the file of each exported FP32 artifact; an equalized one is made when it is first asked for."""

    def __init__(self, manifest: Manifest, scratch: Path | None) -> None:
        self._manifest = manifest
        self._scratch = scratch
        self._done: dict[str, tuple[Path, Equalization]] = {}

    def path_of(self, artifact: Artifact) -> Path:
        """The file that stands for an exported FP32 artifact.

        Raises:
            InputError: It is damaged, or the disk is full.
        """
        exported = self._manifest.path_of(artifact)
        if self._scratch is None or exported.is_dir():
            return exported
        if artifact.id not in self._done:
            self._done[artifact.id] = self._equalized(artifact, exported, self._scratch)
        return self._done[artifact.id][0]

    def provenance(self, artifact: Artifact) -> Mapping[str, Any]:
        """What was done to it, for an artifact that is made of it."""
        found = self._done.get(artifact.id)
        return {"equalization": to_json(found[1])} if found else {}

    def _equalized(self, artifact: Artifact, exported: Path, scratch: Path) -> tuple[Path, Equalization]:
        require_disk(scratch, artifact.size_bytes, "Equalizing")
        self._manifest.verify(artifact)
        path = scratch / exported.name
        with NETWORK_OF[artifact.format](exported, path) as network:
            found = equalize(network)
        if not found.links:
            _LOGGER.warning(
                "%s: nothing to equalize: no two weighted layers have only Relu, pooling or Flatten between "
                "them.",
                artifact.id,
            )
        else:
            _LOGGER.info(
                "%s: %d of %d channels equalized, median spread %.2f → %.2f",
                artifact.id,
                found.scaled,
                found.channels,
                found.spread_before,
                found.spread_after,
            )
        return path, found


@contextmanager
def sources_of(manifest: Manifest, improvements: Collection[Improvement]) -> Iterator[Sources]:
    """The sources of a folder; equalized copies are gone afterwards."""
    if Improvement.EQUALIZATION not in improvements:
        yield Sources(manifest, None)
        return
    with scratch_folder(manifest.folder) as scratch:
        yield Sources(manifest, scratch)


def exported_sources(manifest: Manifest) -> Sources:
    """The exported files themselves."""
    return Sources(manifest, None)
