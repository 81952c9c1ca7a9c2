"""Classify pictures with the model of this bundle (`python infer.py picture.jpg`).

Needs Python 3.10, numpy and onnxruntime, and pillow for everything but .npy files. The pictures are prepared
by preprocessing.py, which is the one that the model was measured with.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True  # the bundle stays as it was delivered


class Refusal(Exception):  # noqa: N818  # what is refused is the user's input
    """Something that the user can mend; the text is the whole message."""


def load_manifest() -> Any:
    """manifest.json of this bundle."""
    try:
        return json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(f"manifest.json cannot be read ({error}). Unpack the bundle again.") from error


def open_session(manifest: Any, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU, and on nothing else."""
    try:
        import onnxruntime
    except ImportError as error:
        raise Refusal("onnxruntime is missing. Run: pip install -r requirements.txt") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    path = HERE / str(manifest["model"]["file"])
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no other base
        reason = " ".join(str(error).split())
        raise Refusal(f"ONNX Runtime cannot load {path.name}: {reason}. Unpack the bundle again.") from error
    if session.get_providers() != ["CPUExecutionProvider"]:
        raise Refusal(f"ONNX Runtime runs on {session.get_providers()}, and the CPU was asked for.")
    return session


def logits_of(session: Any, manifest: Any, pictures: Any) -> Any:
    """(N, height, width, 3) uint8 RGB of the model's size → (N, classes) float32 logits."""
    import numpy as np
    from preprocessing import Preprocessing

    inputs = Preprocessing.from_json(manifest["preprocessing"]).normalize(pictures)
    name = manifest["model"]["inputs"][0]["name"]
    return np.concatenate([session.run(None, {name: one[np.newaxis]})[0] for one in inputs])


def probabilities_of(logits: Any, activation: str) -> Any:
    """What the model's own activation makes of its logits; the logits themselves if it has none."""
    import numpy as np

    values = logits.astype(np.float64)
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-values))
    return values


def read_pictures(path: Path, manifest: Any) -> Any:
    """(N, height, width, 3) uint8: one picture of any size, or an .npy array of the model's size."""
    import numpy as np
    from preprocessing import Preprocessing

    if not path.is_file():
        raise Refusal(f"There is no picture at {path}.")
    preprocessing = Preprocessing.from_json(manifest["preprocessing"])
    shape = (preprocessing.height, preprocessing.width, 3)
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise Refusal(f"{path} is no .npy file ({error}).") from error
        array = array[np.newaxis] if array.ndim == 3 else array
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1:] != shape:
            raise Refusal(
                f"{path}: uint8 RGB of shape {shape} is wanted, or several of them. Received: {array.dtype} "
                f"{array.shape}."
            )
        return array
    try:
        from PIL import Image
    except ImportError as error:
        raise Refusal("pillow is missing. Run: pip install -r requirements.txt") from error
    try:
        with Image.open(path) as image:
            return preprocessing.crop(image)[np.newaxis]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Refusal(f"{path} cannot be decoded ({error}).") from error


def classify(paths: "list[Path]", top: int, threads: int) -> "list[dict[str, Any]]":
    """For each picture its best classes, the likeliest first."""
    manifest = load_manifest()
    session = open_session(manifest, threads)
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
    parser = argparse.ArgumentParser(description="Classify pictures with the model of this bundle.")
    parser.add_argument("pictures", nargs="+", type=Path, help="JPEG, PNG, …, or .npy of the model's size")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to show (default: 5)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    try:
        found = classify(arguments.pictures, max(1, arguments.top), max(0, arguments.threads))
    except Refusal as refusal:
        print(f"infer: {refusal}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"infer: {error}. Run: pip install -r requirements.txt", file=sys.stderr)
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
