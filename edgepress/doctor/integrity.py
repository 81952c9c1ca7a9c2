"""Whether the files of a distribution are those that were installed, and who else claims them.

`onnxruntime` and `onnxruntime-gpu` bring the same folder. Installed over each other, the second overwrites
the first, and removing either leaves the other without its files, while pip holds both for installed. Each
distribution's RECORD lists its files with size and hash (PyPA, "Recording installed projects").
"""

import base64
import hashlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from edgepress.doctor.packages import Pip

Distribution = importlib.metadata.Distribution

# Import name → distributions that each bring it, of which only one can be there.
RIVALS = {
    "onnxruntime": (
        *("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
        *("onnxruntime-qnn", "onnxruntime-training", "ort-nightly", "ort-nightly-gpu"),
    ),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly"),
}
_HASHED_BYTES = 4_000_000  # of larger files only the size is compared: a GPU build has gigabytes


@dataclass(frozen=True)
class Damage:
    """Files that are not as they were installed.

    Attributes:
        distribution: Whose files.
        files: How many are missing or changed.
        of: How many were installed.
    """

    distribution: str
    files: int
    of: int

    def __str__(self) -> str:
        return f"{self.files} of the {self.of} files of {self.distribution} are missing or changed"


@dataclass(frozen=True)
class Conflict:
    """Distributions installed over each other, or one whose files another one took.

    Attributes:
        import_name: The package folder.
        distributions: Who claims it.
        damages: Whose files are no longer its own; empty where the RECORDs do not tell.
        repair: Commands that put it right.
    """

    import_name: str
    distributions: tuple[str, ...]
    damages: tuple[Damage, ...]
    repair: str

    def __str__(self) -> str:
        evidence = "; ".join(map(str, self.damages))
        if len(self.distributions) == 1:
            return f"{evidence}: another package was installed over it, or removed after it"
        over = f"{' and '.join(self.distributions)} are installed over each other"
        return f"{over} ({evidence})" if evidence else over


def conflicts_among(
    distributions: Iterable[Distribution],
    pip: Pip,
    *,
    gpu: bool,
    rivals: Mapping[str, tuple[str, ...]] = RIVALS,
) -> tuple[Conflict, ...]:
    """Who overwrote whom.

    Args:
        distributions: All that are installed.
        pip: Writes the repair.
        gpu: Whether the build for NVIDIA GPUs is the one to keep.
        rivals: Import name → distributions of which only one can be there.
    """
    found = []
    everything = [(canonicalize_name(d.metadata["Name"] or ""), d) for d in distributions]
    for import_name, known in rivals.items():
        owners: dict[str, Distribution] = {}
        for name, distribution in everything:
            if name in known or (name and _brings(distribution, import_name)):
                owners.setdefault(name, distribution)
        # TensorFlow's 22,000 files are only looked at where two distributions claim them.
        looked_at = owners if len(owners) > 1 or import_name == "onnxruntime" else {}
        damages = tuple(filter(None, (damage_of(d, import_name) for d in looked_at.values())))
        if len(owners) < 2 and not damages:
            continue
        names = tuple(sorted(owners))
        kept = next((name for name in names if gpu and name.endswith("-gpu")), known[0])
        if len(names) == 1:
            repair = pip.reinstall(names)
        else:
            repair = pip.replace(names, kept if kept in names else names[0])
        found.append(Conflict(import_name, names, damages, repair))
    return tuple(found)


def _brings(distribution: Distribution, import_name: str) -> bool:
    record = distribution.read_text("RECORD") or ""
    return f"\n{import_name}/__init__.py," in f"\n{record}"


def damage_of(distribution: Distribution, import_name: str) -> Damage | None:
    """Compare a package folder with its RECORD.

    Returns:
        None if nothing is missing or changed, or if the RECORD is not there or not reliable: conda edits
        files after it is written.
    """
    if (distribution.read_text("INSTALLER") or "").strip() == "conda":
        return None
    files = [
        file
        for file in distribution.files or ()
        if file.parts[:1] == (import_name,) and file.hash is not None
    ]
    changed = sum(not _is_as_installed(file, Path(str(distribution.locate_file(file)))) for file in files)
    return Damage(distribution.metadata["Name"], changed, len(files)) if changed else None


def _is_as_installed(file: importlib.metadata.PackagePath, path: Path) -> bool:
    try:
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            return False
        if size > _HASHED_BYTES or file.hash is None or file.hash.mode != "sha256":
            return True
        digest = hashlib.sha256(path.read_bytes()).digest()
    except FileNotFoundError:
        return False
    except OSError:  # may not be read: not known to be changed
        return True
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value
