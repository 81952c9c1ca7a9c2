"""What the scripts of this bundle share: its manifest, and the way from pictures to logits.

The model itself is run by backend.py, which is another file for each runtime:

    versions() -> {package: version}             raises CouldNotRun where one is missing
    open_session(manifest, folder, threads)      raises Refusal or CouldNotRun; gives a session with
        where                                    what really runs it, in words
        run(inputs) -> scores                    (N, …) in, (N, classes) float32 out; raises Refusal
        close()

It may have, beside that, what can be told of its files without the device, which verify.py asks first:

    check_payload(manifest, folder) -> text      raises Invalid or Refusal

The exceptions have a `verdict`: what verify.py says when it meets one.

SPDX-License-Identifier: Apache-2.0
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
INSTALL = "Run: pip install -r requirements.txt"
UNPACK = "Unpack the bundle again."
_ACTIVATIONS = ("softmax", "sigmoid", "none")


class Refusal(Exception):  # noqa: N818  # what is refused is the user's input
    """Something that the user can mend; the text is the whole message."""

    verdict = "INVALID"


class CouldNotRun(Exception):  # noqa: N818  # the name of a verdict
    """The bundle may be sound, but this machine cannot tell."""

    verdict = "COULD NOT RUN"


class Invalid(Exception):  # noqa: N818  # the name of a verdict
    """The bundle is not what it was."""

    verdict = "INVALID"


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
    _require_file(model["file"], "model.file")
    _require_file(own["golden"]["file"], "golden.file")
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


def _require_file(name: Any, where: str) -> None:
    """Refuse what is not the relative path of a file inside this folder."""
    parts = _of(name, where, str).split("/")
    if {"", ".", ".."} & set(parts) or set(name) & set("\\:\0"):
        raise ValueError(f"{where} is {name!r}, and the name of a file in this folder is wanted")


def _of(value: Any, where: str, kind: "type[Any]") -> Any:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise ValueError(f"{where} is {type(value).__name__}, wanted {kind.__name__}")
    return value


def _names_of(model: Any) -> "tuple[str, str]":
    """Of the input, and of the output that holds the scores."""
    found = [_of(model[side][0]["name"], f"model.{side}[0].name", str) for side in ("inputs", "outputs")]
    return found[0], found[1]


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


def open_session(manifest: Any, threads: int = 0) -> Any:
    """A session of this bundle's backend."""
    import backend

    return backend.open_session(manifest, HERE, threads)


def logits_of(session: Any, manifest: Any, pictures: Any) -> Any:
    """(N, height, width, 3) uint8 RGB of the model's size → (N, classes) float32 logits, all finite."""
    import numpy as np

    interface, activation = interface_of(manifest)
    labels = manifest["labels"]
    scores = interface.run(session.run, interface.feed(pictures, preprocessing_of(manifest)))
    if scores.ndim != 2 or (labels is not None and scores.shape[1] != len(labels)):
        wanted = "classes" if labels is None else len(labels)
        raise Refusal(f"The model gives logits of shape {scores.shape}, wanted (N, {wanted}). {UNPACK}")
    logits = interface.logits(scores, activation)
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
