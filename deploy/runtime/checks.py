"""What verify.py checks once the files are known to be as they were.

SPDX-License-Identifier: Apache-2.0
"""

import io
import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from deploy.runtime import bundle
    from deploy.runtime.bundle import HERE, INSTALL, UNPACK, CouldNotRun, Invalid
else:  # beside it, on a device
    import bundle
    from bundle import HERE, INSTALL, UNPACK, CouldNotRun, Invalid

_LARGEST = 1e30  # of a tolerance; NaN and infinity are not below it
_PILLOW = "pillow"


def in_order(options: Any) -> "Iterator[tuple[str, str]]":
    """Each check's name and what it found; the first that fails raises.

    Args:
        options: `public_key`, `latency`, `threads`, as verify.py reads them.
    """
    if options.public_key is not None:
        from signature import check_signature

        yield "signature", check_signature(HERE, options.public_key)
    manifest = read_manifest()
    yield from check_payload(manifest)
    yield "machine", check_machine(manifest)
    versions = check_versions(manifest)
    session = bundle.open_session(manifest, min(max(0, options.threads), os.cpu_count() or 1))
    try:
        yield "runtime", f"{versions}; on {session.where}"
        yield "golden", check_golden(manifest, session)
        if options.latency is not None:
            yield "latency", check_latency(manifest, session, options.latency)
    finally:
        session.close()


def read_manifest() -> Any:
    """manifest.json, with everything in its place that is used of it."""
    try:
        manifest = bundle.load_manifest()
        target, versions = manifest["target"], manifest["versions"]
        limits = [manifest["golden"][name] for name in ("tolerance", "tolerance_rms")]
        budget = manifest["limits"]["latency_ms"]
        ranges = manifest["accepted_versions"]
        sound = (
            all(_is_text(target[name]) for name in ("machines", "isas", "brings"))
            and isinstance(ranges, dict)
            and _is_text([*ranges.values(), *(versions[name] for name in ranges)])
            and all(type(limit) in {int, float} and 0 < limit < _LARGEST for limit in limits)
            and (budget is None or (type(budget) in {int, float} and 0 < budget < _LARGEST))
        )
    except (KeyError, TypeError) as error:
        raise Invalid(f"manifest.json lacks something ({error!r}). {UNPACK}") from error
    if not sound:
        raise Invalid(
            f"manifest.json: target, versions, a tolerance or the latency budget is no such thing. {UNPACK}"
        )
    return manifest


def _is_text(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def check_payload(manifest: Any) -> "Iterator[tuple[str, str]]":
    """What the backend can tell of its files without the device; nothing where it has no such check."""
    import backend

    check = getattr(backend, "check_payload", None)
    if check is not None:
        yield "payload", check(manifest, HERE)


def check_machine(manifest: Any) -> str:
    """This kind of machine is the one that the bundle was made for."""
    from isa import Isa, host_isa, takes

    machine, wanted = platform.machine(), manifest["target"]["machines"]
    if wanted and machine not in wanted:
        raise CouldNotRun(
            f"the bundle is for {' or '.join(wanted)}, this machine is {machine}. Make one for it."
        )
    here, isas = host_isa(), manifest["target"]["isas"]
    if not isas:
        return f"{machine}, Python {platform.python_version()}"
    try:
        is_fit = any(takes(here, Isa(name)) for name in isas)
    except ValueError as error:
        raise Invalid(f"manifest.json: target.isas: {error}. {UNPACK}") from error
    if not is_fit:
        raise CouldNotRun(
            f"the bundle is for {' or '.join(isas)}, and this CPU is {here.value}: its integers may "
            "saturate or be slow. Make a bundle for it."
        )
    return f"{machine} ({here.value}), Python {platform.python_version()}"


def check_versions(manifest: Any) -> str:
    """The packages are there, in versions that may run the bundle."""
    import backend

    found = {**backend.versions(), _PILLOW: _pillow_version()}
    told = [
        _told(package, wanted, found.get(package), manifest)
        for package, wanted in manifest["accepted_versions"].items()
    ]
    return ", ".join(told)


def _told(package: str, wanted: str, found: "str | None", manifest: Any) -> str:
    """A package's version, and the one that the golden answers were made with if that was another."""
    from version_range import accepts

    proven, is_brought = manifest["versions"][package], package in manifest["target"]["brings"]
    remedy = "It comes with the device's system: see README.md." if is_brought else INSTALL
    if found is None and package == _PILLOW:
        return "pillow is missing, and infer.py needs it for everything but .npy files"
    if found is None:
        raise CouldNotRun(f"{package} is not here. {remedy}")
    try:
        is_accepted = accepts(wanted, found)
    except ValueError as error:
        raise Invalid(f"manifest.json: accepted_versions: {error}. {UNPACK}") from error
    if not is_accepted:
        raise CouldNotRun(f"{package} is {found}, and {wanted} is wanted. {remedy}")
    return f"{package} {found}" if proven in {found, ""} else f"{package} {found} (made with {proven})"


def _pillow_version() -> "str | None":
    try:
        import PIL
    except ImportError:
        return None
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
        raise Invalid(
            f"manifest.json has {len(labels)} labels, and the model has {class_count} classes. {UNPACK}"
        )
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else None
    except (OSError, ValueError) as error:
        raise Invalid(f"labels.txt cannot be read ({error}). {UNPACK}") from error
    if lines != labels:
        raise Invalid(f"labels.txt has other labels than manifest.json. {UNPACK}")


def check_golden(manifest: Any, session: Any) -> str:
    """The model's answers to the golden pictures are within the tolerances."""
    import numpy as np

    pictures, wanted = read_golden(manifest)
    check_labels(manifest, wanted.shape[1])
    found = bundle.logits_of(session, manifest, pictures)
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


def check_latency(manifest: Any, session: Any, asked_ms: float) -> str:
    """The median of single inferences with the first golden picture is within the budget.

    Args:
        manifest: Has the budget.
        session: Of the model.
        asked_ms: Another budget; 0 for that of the manifest.
    """
    from latency import latency_of

    budget_ms = asked_ms or manifest["limits"]["latency_ms"]
    if budget_ms is None or not budget_ms > 0:
        raise CouldNotRun("manifest.json has no latency budget. Give one in milliseconds: --latency MS")
    interface, _ = bundle.interface_of(manifest)
    pictures, _ = read_golden(manifest)
    inputs = interface.filled(interface.feed(pictures[:1], bundle.preprocessing_of(manifest)))
    found = latency_of(session, inputs)
    said = f"{found.told(len(inputs))}, allowed: {budget_ms:g} ms"
    if found.median_ns > budget_ms * 1e6:
        raise Invalid(f"too slow here: {said}. See that nothing else runs, or make a smaller version.")
    return said
