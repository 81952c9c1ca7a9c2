"""Check this bundle on this machine (`python verify.py`).

Every file against its SHA-256, the machine, the runtime and what it really runs on, and the model's answers
to the golden pictures. Exit code 0: VALID; 1: INVALID; 2: it could not be checked here.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
UNPACK = "Unpack the bundle again."
OLDEST_PYTHON = (3, 10)
_LARGEST = 1e30  # of a tolerance; NaN and infinity are not below it


def _tell(done: "list[tuple[str, str]]", verdict: str, *, as_json: bool) -> int:
    """Print what was checked and the verdict, and give the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a file name is any text
    if as_json:
        print(json.dumps({"verdict": verdict, "checks": dict(done)}, indent=2, ensure_ascii=False))
    else:
        for name, finding in done:
            print(f"{name}: {finding}")
        print(verdict)
    return {"VALID": 0, "INVALID": 1}.get(verdict, 2)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _AsListed(importlib.machinery.SourceFileLoader):
    """Imports a file of this bundle only if it is what manifest.sha256 says, and never from __pycache__.

    A changed file is to be found, and not to be run. The checksums of all files are checked by a module of
    the bundle, too, so this cannot wait for them.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG003  # of the protocol
        """Tell what of this bundle is imported under a name; None for a module from elsewhere."""
        file = HERE / (name + ".py")
        if path is not None or not file.is_file():
            return None
        return importlib.util.spec_from_file_location(name, file, loader=cls(name, str(file)))

    def path_stats(self, path: Any) -> Any:
        """Refuse to tell the time of a source, without which no compiled file is looked for."""
        raise OSError(f"{path} is always compiled anew")

    def get_data(self, path: Any) -> bytes:
        """Read a source and compare it with its checksum."""
        content, name = super().get_data(path), Path(path).name
        line = f"{hashlib.sha256(content).hexdigest()}  {name}"
        if line not in (HERE / "manifest.sha256").read_text(encoding="utf-8", errors="replace").split("\n"):
            raise ValueError(f"{name} is not what manifest.sha256 says")
        return content


if __name__ == "__main__":
    sys.dont_write_bytecode = True  # the bundle stays as it was delivered
    sys.meta_path.insert(0, _AsListed)
if TYPE_CHECKING or __package__:
    from deploy.runtime.bundle import CouldNotRun, Invalid
    from deploy.runtime.checksums import check_files
else:  # beside it, on a device
    try:
        from bundle import CouldNotRun, Invalid
        from checksums import check_files
    except (ImportError, OSError, ValueError) as failure:
        if __name__ != "__main__":
            raise
        is_unreadable = isinstance(failure, OSError) and not isinstance(failure, FileNotFoundError)
        finding = f"{_one_line(failure)}. {'Check its rights.' if is_unreadable else UNPACK}"
        verdict = "COULD NOT RUN" if is_unreadable else "INVALID"
        sys.exit(_tell([("failed", finding)], verdict, as_json="--json" in sys.argv))


def check_python() -> None:
    """This Python can run the other scripts."""
    if sys.version_info[:2] < OLDEST_PYTHON:
        raise CouldNotRun(
            f"Python 3.10 or newer is wanted, this is {platform.python_version()}. Use a newer one."
        )


def read_manifest() -> Any:
    """manifest.json, with everything in its place that is used of it."""
    import infer

    try:
        manifest = infer.load_manifest()
        machines, versions = manifest["target"]["machines"], manifest["versions"]
        limits = [manifest["golden"][name] for name in ("tolerance", "tolerance_rms")]
        sound = (
            isinstance(machines, list)
            and all(isinstance(machine, str) for machine in machines)
            and all(isinstance(versions[name], str) for name in ("numpy", "onnxruntime", "pillow"))
            and all(type(limit) in {int, float} and 0 < limit < _LARGEST for limit in limits)
        )
    except infer.Refusal as refusal:
        raise Invalid(str(refusal)) from refusal
    except (KeyError, TypeError) as error:
        raise Invalid(f"manifest.json lacks something ({error!r}). {UNPACK}") from error
    if not sound:
        raise Invalid(f"manifest.json: target.machines, versions or a tolerance is no such thing. {UNPACK}")
    return manifest


def check_machine(manifest: Any) -> str:
    """This kind of machine is the one that the bundle was made for."""
    machine, wanted = platform.machine(), manifest["target"]["machines"]
    if machine not in wanted:
        raise CouldNotRun(
            f"the bundle is for {' or '.join(wanted)}, this machine is {machine}. Make one for it."
        )
    return f"{machine}, Python {platform.python_version()}"


def check_runtime(manifest: Any) -> "tuple[str, Any]":
    """The runtime is there, loads the model, and runs it where it was told to."""
    try:
        import infer
        import numpy
        import onnxruntime
    except ImportError as error:
        raise CouldNotRun(f"{error}. Run: pip install -r requirements.txt") from error
    try:
        session = infer.open_session(manifest)
    except infer.Refusal as refusal:
        raise Invalid(str(refusal)) from refusal
    proven = manifest["versions"]
    where = ", ".join(session.get_providers())
    versions = (
        f"ONNX Runtime {_against(proven['onnxruntime'], onnxruntime.__version__)} on {where}",
        f"numpy {_against(proven['numpy'], numpy.__version__)}",
        f"pillow {_against(proven['pillow'], _pillow_version())}",
    )
    return ", ".join(versions), session


def _against(proven: str, found: str) -> str:
    """A version, and the one that the golden answers were made with if that was another."""
    return found if found == proven else f"{found} (made with {proven})"


def _pillow_version() -> str:
    try:
        import PIL
    except ImportError:
        return "is missing, and infer.py needs it for everything but .npy files"
    return str(PIL.__version__)


def read_golden(manifest: Any) -> "tuple[Any, Any]":
    """The golden pictures, (N, height, width, 3) uint8, and their logits, (N, classes) float32."""
    import numpy as np

    path = HERE / manifest["golden"]["file"]
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            pictures, logits = arrays["pictures"], arrays["logits"]
    except Exception as error:  # numpy's reader raises whatever a broken file makes it meet
        raise Invalid(f"{path.name} cannot be read ({error!r}). {UNPACK}") from error
    size = (manifest["preprocessing"]["height"], manifest["preprocessing"]["width"], 3)
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != size or not len(pictures):
        wanted = f"uint8 (N, {size[0]}, {size[1]}, 3)"
        raise Invalid(
            f"{path.name}: pictures are {pictures.dtype} {pictures.shape}, wanted {wanted}. {UNPACK}"
        )
    if logits.dtype != np.float32 or logits.ndim != 2 or len(logits) != len(pictures) or not logits.size:
        found, wanted = f"{logits.dtype} {logits.shape}", f"float32 ({len(pictures)}, classes)"
        raise Invalid(f"{path.name}: logits are {found}, wanted {wanted}. {UNPACK}")
    if not np.isfinite(logits).all():
        raise Invalid(f"{path.name}: the wanted logits are not finite. {UNPACK}")
    return pictures, logits


def check_labels(manifest: Any, class_count: int) -> None:
    """The labels, if there are any, are as many as the logits, and labels.txt has the same."""
    labels, path = manifest["labels"], HERE / "labels.txt"
    if labels is not None and len(labels) != class_count:
        found = f"manifest.json has {len(labels)} labels, and the model has {class_count} classes"
        raise Invalid(f"{found}. {UNPACK}")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else None
    except (OSError, ValueError) as error:
        raise Invalid(f"labels.txt cannot be read ({error}). {UNPACK}") from error
    if lines != labels:
        raise Invalid(f"labels.txt has other labels than manifest.json. {UNPACK}")


def check_golden(manifest: Any, session: Any) -> str:
    """The model's answers to the golden pictures are within the tolerances."""
    import infer
    import numpy as np

    pictures, wanted = read_golden(manifest)
    check_labels(manifest, wanted.shape[1])
    try:
        found = infer.logits_of(session, manifest, pictures)
    except infer.Refusal as refusal:
        raise Invalid(str(refusal)) from refusal
    if found.shape != wanted.shape:
        raise Invalid(f"logits have the shape {found.shape}, wanted {wanted.shape}. {UNPACK}")
    differences = found.astype(np.float64) - wanted
    largest, rms = float(np.abs(differences).max()), float(np.sqrt(np.square(differences).mean()))
    most, most_rms = manifest["golden"]["tolerance"], manifest["golden"]["tolerance_rms"]
    said = f"{largest:.3g} (allowed: {most:.3g}), root mean square {rms:.3g} (allowed: {most_rms:.3g})"
    if not (largest <= most and rms <= most_rms):
        raise Invalid(
            f"logits differ by up to {said}. Install the versions in requirements.txt and try again."
        )
    return f"logits of {len(wanted)} pictures differ by up to {said}"


def check_signed(public_key: Path) -> str:
    """The bundle is signed with this key."""
    if TYPE_CHECKING or __package__:
        from deploy.runtime.signature import check_signature
    else:
        from signature import check_signature

    return str(check_signature(HERE, public_key))


def verify(public_key: "Path | None" = None) -> "tuple[list[tuple[str, str]], str]":
    """All checks, in order, until one fails: their names and findings, and the verdict."""
    done = []
    try:
        done.append(("files", check_files(HERE)))
        check_python()
        if public_key is not None:
            done.append(("signature", check_signed(public_key)))
        manifest = read_manifest()
        done.append(("machine", check_machine(manifest)))
        finding, session = check_runtime(manifest)
        done.append(("runtime", finding))
        done.append(("golden", check_golden(manifest, session)))
    except Invalid as error:
        return [*done, ("failed", _one_line(error))], "INVALID"
    except CouldNotRun as error:
        return [*done, ("failed", _one_line(error))], "COULD NOT RUN"
    except Exception as error:  # noqa: BLE001  # not foreseen; a traceback has the exit code of INVALID
        return [*done, ("failed", f"{type(error).__name__}: {_one_line(error)}")], "COULD NOT RUN"
    return done, "VALID"


def main() -> int:
    """Print what was checked and the verdict."""
    if sys.path[0] != str(HERE):
        sys.path.insert(0, str(HERE))  # as under `python -I`
    parser = argparse.ArgumentParser(description="Check this bundle on this machine.")
    parser.add_argument("--public-key", type=Path, metavar="FILE", help="it must be signed with this key")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    done, verdict = verify(arguments.public_key)
    return _tell(done, verdict, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
