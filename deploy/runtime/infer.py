"""Classify pictures with the model of this bundle (`python infer.py picture.jpg`).

Needs Python 3.10, numpy and onnxruntime, and pillow for everything but .npy files. The pictures are prepared
by preprocessing.py, which is the one that the model was measured with.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
INSTALL = "Run: pip install -r requirements.txt"
UNPACK = "Unpack the bundle again."
_ACTIVATIONS = ("softmax", "sigmoid", "none")


class Refusal(Exception):  # noqa: N818  # what is refused is the user's input
    """Something that the user can mend; the text is the whole message."""


def stand_alone() -> None:
    """Import from this bundle, also under `python -I`, and leave it as it was delivered."""
    sys.dont_write_bytecode = True
    if sys.path[0] != str(HERE):
        sys.path.insert(0, str(HERE))


def load_manifest() -> Any:
    """manifest.json of this bundle, with everything that these scripts use of it in its place."""
    try:
        manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
        _require(manifest)
    except KeyError as error:
        raise Refusal(f"manifest.json has no {error}. {UNPACK}") from error
    except (OSError, ValueError, TypeError, IndexError, RecursionError) as error:
        raise Refusal(f"manifest.json cannot be used ({error}). {UNPACK}") from error
    return manifest


def _require(manifest: Any) -> None:
    """Refuse a manifest that lacks something or has it in another type."""
    own = _of(manifest, "the manifest", dict)
    model, labels = _of(own["model"], "model", dict), own["labels"]
    for where, name in (("model.file", model["file"]), ("golden.file", own["golden"]["file"])):
        if _of(name, where, str) in {"", ".", ".."} or set(name) & set("/\\\0"):
            raise ValueError(f"{where} is {name!r}, and the name of a file in this folder is wanted")
    _names_of(model)
    if own["activation"] not in _ACTIVATIONS:
        raise ValueError(f"activation is {own['activation']!r}, wanted one of {', '.join(_ACTIVATIONS)}")
    if labels is not None and not all(isinstance(label, str) for label in _of(labels, "labels", list)):
        raise ValueError("labels are not all text")
    for name in ("height", "width"):
        if _of(own["preprocessing"][name], f"preprocessing.{name}", int) < 1:
            raise ValueError(f"preprocessing.{name} is not positive")
    if not 0 < _of(own["preprocessing"]["crop_ratio"], "preprocessing.crop_ratio", float) <= 1:
        raise ValueError("preprocessing.crop_ratio is not in (0, 1]")


def _of(value: Any, where: str, kind: "type[Any]") -> Any:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{where} is {type(value).__name__}, wanted {kind.__name__}")
    return value


def open_session(manifest: Any, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU, and on nothing else."""
    try:
        import onnxruntime
    except ImportError as error:
        raise Refusal(f"onnxruntime cannot be imported ({error}). {INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    path = HERE / manifest["model"]["file"]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise Refusal(f"ONNX Runtime cannot load {path.name}: {error}. {UNPACK}") from error
    if session.get_providers() != ["CPUExecutionProvider"]:
        raise Refusal(f"ONNX Runtime runs on {session.get_providers()}, and the CPU was asked for. {INSTALL}")
    return session


def preprocessing_of(manifest: Any) -> Any:
    """The way from a picture to the model's input, as the manifest declares it."""
    from preprocessing import Preprocessing

    try:
        return Preprocessing.from_json(manifest["preprocessing"])
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(f"manifest.json: preprocessing cannot be used ({error}). {UNPACK}") from error


def interface_of(manifest: Any) -> Any:
    """The model's interface, one picture at a time if it may, and its activation."""
    from dataclasses import replace

    from interface import Activation, Interface

    try:
        found = Interface.from_json(manifest["model"]["interface"])
        return replace(found, batch=found.batch or 1), Activation(manifest["activation"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refusal(f"manifest.json: the interface cannot be used ({error}). {UNPACK}") from error


def _names_of(model: Any) -> "tuple[str, str]":
    """Of the input, and of the output that holds the scores."""
    found = [_of(model[side][0]["name"], f"model.{side}[0].name", str) for side in ("inputs", "outputs")]
    return found[0], found[1]


def logits_of(session: Any, manifest: Any, pictures: Any) -> Any:
    """(N, height, width, 3) uint8 RGB of the model's size → (N, classes) float32 logits, all finite."""
    import numpy as np

    interface, activation = interface_of(manifest)
    inputs = interface.feed(pictures, preprocessing_of(manifest))
    names, labels = _names_of(manifest["model"]), manifest["labels"]
    try:
        scores = interface.run(lambda block: session.run([names[1]], {names[0]: block})[0], inputs)
        logits = interface.logits(scores, activation)
    except Exception as error:  # ONNX Runtime's errors share no other base
        raise Refusal(f"ONNX Runtime cannot run {manifest['model']['file']}: {error}. {UNPACK}") from error
    if logits.ndim != 2 or (labels is not None and logits.shape[1] != len(labels)):
        wanted = "classes" if labels is None else len(labels)
        raise Refusal(f"The model gives logits of shape {logits.shape}, wanted (N, {wanted}). {UNPACK}")
    if not np.isfinite(logits).all():
        raise Refusal("The model gives logits that are not finite. Run verify.py.")
    return logits


def probabilities_of(logits: Any, activation: str) -> Any:
    """What the model's own activation makes of its logits; the logits themselves if it has none."""
    import numpy as np

    values = logits.astype(np.float64)
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-values.clip(-700, 700)))  # e^710 is no float64 any more
    return values


def read_pictures(path: Path, manifest: Any) -> Any:
    """(N, height, width, 3) uint8: one picture of any size, or an .npy array of the model's size."""
    preprocessing = preprocessing_of(manifest)
    if not path.is_file():
        wrong = f"{path} is no file" if path.exists() else f"There is no picture at {path}"
        raise Refusal(f"{wrong}. Give pictures, e.g. JPEG or PNG.")
    if path.suffix == ".npy":
        return _read_array(path, (preprocessing.height, preprocessing.width, 3))
    from decoding import picture_of

    try:
        return preprocessing.crop(picture_of(path, preprocessing.least_size))[None]
    except ImportError as error:
        raise Refusal(f"pillow cannot be imported ({error}). {INSTALL}") from error
    except ValueError as error:
        raise Refusal(f"{path} cannot be decoded ({error}). Give another picture.") from error


def _read_array(path: Path, shape: "tuple[int, int, int]") -> Any:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy's reader raises whatever a broken header makes it meet
        raise Refusal(f"{path} is no .npy file ({error}). Save one array with numpy.save.") from error
    if not isinstance(array, np.ndarray):
        raise Refusal(f"{path} is no .npy file (it holds several arrays). Save one with numpy.save.")
    pictures = array[np.newaxis] if array.ndim == 3 else array
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1:] != shape or not len(pictures):
        raise Refusal(
            f"{path}: uint8 RGB of shape {shape} is wanted, or several of them. Received: {array.dtype} "
            f"{array.shape}."
        )
    return pictures


def classify(paths: "list[Path]", top: int, threads: int) -> "list[dict[str, Any]]":
    """For each picture its best classes, the likeliest first."""
    manifest = load_manifest()
    session = open_session(manifest, min(threads, os.cpu_count() or 1))
    labels = manifest["labels"]
    found = []
    for path in paths:
        logits = logits_of(session, manifest, read_pictures(path, manifest))
        for scores in probabilities_of(logits, manifest["activation"]):
            best = [int(i) for i in (-scores).argsort(kind="stable")[:top]]
            answers = [
                {"class": i, "label": labels[i] if labels else str(i), "score": float(scores[i])}
                for i in best
            ]
            found.append({"picture": str(path), "answers": answers})
    return found


def main() -> int:
    """Read the command line, print the answers; 2 for wrong use or input."""
    stand_alone()
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `infer.py … | head` ends quietly
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a label is any text
    parser = argparse.ArgumentParser(description="Classify pictures with the model of this bundle.")
    parser.add_argument("pictures", nargs="+", type=Path, help="JPEG, PNG, …, or .npy of the model's size")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to show (default: 5)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    try:
        found = classify(arguments.pictures, max(1, arguments.top), max(0, arguments.threads))
    except Refusal as refusal:
        print(f"infer: {' '.join(str(refusal).split())}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"infer: {error}. {INSTALL}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for one in found:
        print(one["picture"])
        for answer in one["answers"]:
            print(f"  {answer['score']:8.4f}  {answer['label']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
