"""Results that several commands show."""

from edgepress.cli.command import Outcome
from edgepress.manifest import Manifest


def artifact_outcome(manifest: Manifest) -> Outcome:
    """A line per artifact: id, precision, size."""
    width = max((len(artifact.id) for artifact in manifest.artifacts), default=0)
    return Outcome(
        tuple(
            f"{a.id:<{width}}  {a.precision.value:<5}  {a.size_bytes / 1e6:9.1f} MB"
            for a in manifest.artifacts
        ),
        {
            "folder": str(manifest.folder),
            "artifacts": [
                {"id": a.id, "path": a.path, "precision": a.precision.value, "size_bytes": a.size_bytes}
                for a in manifest.artifacts
            ],
        },
    )
