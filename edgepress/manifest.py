"""manifest.json: the only thing that passes from stage to stage."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgepress.artifact import Artifact, Format, Precision
from edgepress.digests import remembered_sha256
from edgepress.errors import InputError, unknown_choice
from edgepress.files import atomic_path, read_json, sha256_of_path, write_json
from edgepress.interface import Activation
from edgepress.preprocessing import Preprocessing
from edgepress.record import from_json, to_json

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
SCHEMA_VERSION = 3


@dataclass(frozen=True)
class ModelCard:
    """The Keras model behind all artifacts of a manifest.

    Attributes:
        name: "vgg16", "vgg16-digits" or the stem of the user's file.
        source: Where its weights came from: "imagenet", "random (seed 1)", "trained here", a file name.
        fingerprint: SHA-256 over all weights in the model's order; the calibration table names it.
        parameters: Number of all parameters.
        class_count: Width of the logits.
        labels: Class names in the order of the logits, or None.
        preprocessing: What the input tensor expects.
        activation: From logits to probabilities; outside of the artifacts.
        trained_on: SHA-256 of the pictures that are known to have trained it; they are not evaluated.
        golden_sha256: Of golden.npz, Keras' answers to the golden pictures; None where it was not made.
    """

    name: str
    source: str
    fingerprint: str
    parameters: int
    class_count: int
    labels: tuple[str, ...] | None
    preprocessing: Preprocessing
    activation: Activation
    trained_on: tuple[str, ...] = ()
    golden_sha256: str | None = None


@dataclass(frozen=True)
class _File:
    """manifest.json as it is written."""

    schema_version: int
    model: ModelCard
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class Manifest:
    """A folder of artifacts of one model.

    Attributes:
        folder: Where manifest.json and the artifacts lie.
        model: The model behind them.
        artifacts: In the order in which they were made; ids are unique.
    """

    folder: Path
    model: ModelCard
    artifacts: tuple[Artifact, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read `folder`/manifest.json. The artifacts themselves are not opened (see `verify`).

        Raises:
            InputError: No such file, not of this schema version, or damaged.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise InputError(
                f"No {MANIFEST} in {folder}. Make one with: edgepress export MODEL --out {folder}"
            )
        value = read_json(path, "manifest")
        version = value.get("schema_version") if isinstance(value, dict) else None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} has schema version {version}, wanted {SCHEMA_VERSION}. Remove it and export anew."
            )
        try:
            file = from_json(_File, value)
            _require_sound(file.artifacts)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error!r}). Remove it and export anew.") from error
        return cls(folder, file.model, file.artifacts)

    def save(self) -> None:
        """Write manifest.json atomically."""
        file = _File(SCHEMA_VERSION, self.model, self.artifacts)
        write_json(self.folder / MANIFEST, to_json(file))

    def find(self, artifact_id: str) -> Artifact | None:
        """The artifact of that id, or None."""
        return next((a for a in self.artifacts if a.id == artifact_id), None)

    def get(self, artifact_id: str) -> Artifact:
        """The artifact of that id.

        Raises:
            InputError: There is none.
        """
        found = self.find(artifact_id)
        if found is None:
            raise unknown_choice("variant", artifact_id, [a.id for a in self.artifacts])
        return found

    def baseline(self, artifact_format: Format) -> Artifact | None:
        """The exported FP32 artifact of a format, or None."""
        return next(
            (
                a
                for a in self.artifacts
                if a.format is artifact_format
                and a.precision is Precision.FP32
                and (a.parent is None or artifact_format is Format.ENGINE)
            ),
            None,
        )

    def path_of(self, artifact: Artifact) -> Path:
        """Where the artifact's file or folder lies."""
        return self.folder / artifact.path

    def with_artifact(self, artifact: Artifact) -> "Manifest":
        """A manifest in which `artifact` is added, or takes the place of the one with its id."""
        if self.find(artifact.id) is None:
            return replace(self, artifacts=(*self.artifacts, artifact))
        kept = tuple(artifact if a.id == artifact.id else a for a in self.artifacts)
        return replace(self, artifacts=kept)

    def without(self, *paths: str) -> "Manifest":
        """A manifest that does not name the artifacts, or the golden set, of these paths."""
        model = replace(self.model, golden_sha256=None) if GOLDEN in paths else self.model
        kept = tuple(artifact for artifact in self.artifacts if artifact.path not in paths)
        return replace(self, model=model, artifacts=kept)

    @contextlib.contextmanager
    def placing(self, path: str) -> Iterator[Path]:
        """Yield a temporary path for an artifact's file, which takes its place in the folder on success.

        Just before it does, the manifest on disk, which must be this one, stops naming what was there: at
        no moment does it describe another content than the file has, whenever the process is killed.

        Args:
            path: Relative to the folder.
        """
        with atomic_path(self.folder / path) as temporary:
            yield temporary
            without = self.without(path)
            if without != self:
                without.save()

    def verify(self, artifact: Artifact) -> Path:
        """Check the artifact's content against its SHA-256 before it is used, and return its path.

        Raises:
            InputError: The file is missing or differs by at least a byte.
        """
        path = self.path_of(artifact)
        if not path.exists():
            raise InputError(
                f"{artifact.id}: {path} is missing. Make it anew: run the same command again after "
                f"removing {self.folder / MANIFEST}."
            )
        found = sha256_of_path(path)
        if found != artifact.sha256:
            raise InputError(
                f"{artifact.id}: {path} was changed: SHA-256 is {found[:12]}…, the manifest says "
                f"{artifact.sha256[:12]}…. Remove the file and run the step that made it again."
            )
        return path

    def is_current(self, artifact_id: str, key: str) -> bool:
        """Whether the artifact of that id was made from the same things and is still whole."""
        artifact = self.find(artifact_id)
        return artifact is not None and artifact.key == key and self.is_whole(artifact)

    def is_whole(self, artifact: Artifact) -> bool:
        """Whether the artifact is there and, as far as the file system tells, unchanged (see `digests`)."""
        if not self.path_of(artifact).exists():
            return False
        return remembered_sha256(self.folder, artifact.path) == artifact.sha256


def _require_sound(artifacts: tuple[Artifact, ...]) -> None:
    """Refuse what edgepress never writes: ids given twice, and paths that lead out of the folder."""
    if len({artifact.id for artifact in artifacts}) < len(artifacts):
        raise ValueError("an id is there twice")
    for artifact in artifacts:
        path = PurePosixPath(artifact.path)
        if path.is_absolute() or ".." in path.parts or path.name in {"", MANIFEST, GOLDEN}:
            raise ValueError(f"{artifact.path!r} is no path of an artifact inside the folder")
