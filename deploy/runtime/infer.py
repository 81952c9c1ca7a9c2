"""Classify pictures with the model of this bundle (`python infer.py photo.jpg`), or time it (`--benchmark`).

Needs Python 3.10, numpy and the runtime in requirements.txt, and pillow for everything but .npy files. The
pictures are prepared by preprocessing.py, which is the one that the model was measured with.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.dont_write_bytecode = True  # the bundle stays as it was delivered
    sys.pycache_prefix = os.devnull  # and no compiled file that lies there is run: no checksum covers it
    sys.path.insert(0, str(Path(__file__).resolve().parent))  # as under `python -I`

if TYPE_CHECKING or __package__:
    from deploy.runtime import bundle
    from deploy.runtime.bundle import INSTALL, CouldNotRun, Refusal, open_session
else:  # beside it, on a device
    import bundle
    from bundle import INSTALL, CouldNotRun, Refusal, open_session


def read_pictures(path: Path, manifest: Any) -> Any:
    """(N, height, width, 3) uint8: one picture of any size, or an .npy array of the model's size."""
    preprocessing = bundle.preprocessing_of(manifest)
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
    manifest = bundle.load_manifest()
    labels = manifest["labels"]
    found = []
    with contextlib.closing(open_session(manifest, min(threads, os.cpu_count() or 1))) as session:
        for path in paths:
            logits = bundle.logits_of(session, manifest, read_pictures(path, manifest))
            for scores in bundle.probabilities_of(logits, manifest["activation"]):
                best = [int(i) for i in (-scores).argsort(kind="stable")[:top]]
                answers = [
                    {"class": i, "label": labels[i] if labels else str(i), "score": float(scores[i])}
                    for i in best
                ]
                found.append({"picture": str(path), "answers": answers})
    return found


def benchmark(paths: "list[Path]", threads: int) -> "dict[str, Any]":
    """Times of single inferences with the first picture, or with a grey one."""
    import numpy as np
    from latency import latency_of

    manifest = bundle.load_manifest()
    threads = min(threads, os.cpu_count() or 1)
    start = time.perf_counter_ns()
    session = open_session(manifest, threads)
    load_ns = time.perf_counter_ns() - start
    preprocessing, (interface, _) = bundle.preprocessing_of(manifest), bundle.interface_of(manifest)
    grey = np.full((1, preprocessing.height, preprocessing.width, 3), 128, np.uint8)
    pictures = read_pictures(paths[0], manifest)[:1] if paths else grey
    inputs = interface.filled(interface.feed(pictures, preprocessing))
    with contextlib.closing(session):
        found = latency_of(session, inputs)
    return {
        "where": session.where,
        "threads": threads or "all",
        "batch": len(inputs),
        "load_ns": load_ns,
        "median_ns": found.median_ns,
        "p90_ns": found.p90_ns,
        "samples_ns": list(found.samples_ns),
        "told": found.told(len(inputs)),
    }


def main() -> int:
    """Read the command line, print the answers; 2 for wrong use or input."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `infer.py … | head` ends quietly
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a label is any text
    arguments = _parsed()
    try:
        if arguments.benchmark:
            _tell_times(benchmark(arguments.pictures, max(0, arguments.threads)), as_json=arguments.json)
        else:
            found = classify(arguments.pictures, max(1, arguments.top), max(0, arguments.threads))
            _tell_classes(found, as_json=arguments.json)
    except (Refusal, CouldNotRun) as refusal:
        print(f"infer: {' '.join(str(refusal).split())}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"infer: {error}. {INSTALL}", file=sys.stderr)
        return 2
    return 0


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Classify pictures with the model of this bundle.")
    parser.add_argument("pictures", nargs="*", type=Path, help="JPEG, PNG, …, or .npy of the model's size")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to show (default: 5)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="default: all cores")
    parser.add_argument(
        "--benchmark", action="store_true", help="time single inferences instead, with the first picture"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if not arguments.pictures and not arguments.benchmark:
        parser.error("give pictures, or --benchmark")
    return arguments


def _tell_classes(found: "list[dict[str, Any]]", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for one in found:
        print(one["picture"])
        for answer in one["answers"]:
            print(f"  {answer['score']:8.4f}  {answer['label']}")


def _tell_times(found: "dict[str, Any]", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(f"{found['where']}, threads: {found['threads']}")
    print(f"load: {found['load_ns'] / 1e6:.0f} ms")
    print(f"inference: {found['told']}")


if __name__ == "__main__":
    sys.exit(main())
