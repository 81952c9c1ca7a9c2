"""Runs the model with TensorRT or TensorRT-RTX on the first CUDA device only. In a bundle: backend.py.

What runs is a plan: one of those in the bundle (`plans` in manifest.json), chosen by the GPU's compute
capability, or the engine that build.py made on this device. Each has a card beside it, which is read
first: a plan that cannot run here never gets to TensorRT. The folder edgepress/ is the toolkit's own code.

SPDX-License-Identifier: Apache-2.0
"""

import contextlib
import importlib
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from deploy.runtime.bundle import HERE, INSTALL, UNPACK, CouldNotRun, Invalid, Refusal, load_manifest
else:  # beside it, on a device
    from bundle import HERE, INSTALL, UNPACK, CouldNotRun, Invalid, Refusal, load_manifest

if str(HERE) not in sys.path:  # as under `python -I`: the toolkit's own code is in folders of the bundle
    sys.path.insert(0, str(HERE))

BUILD = "Run: python build.py"
ENGINE_FOLDER = "engine"
ENGINE = "model.engine"
_BUILT_HERE = "build"  # target.delivery
_HINT = re.compile(r"[;.] `?edgepress doctor`? says [^.]*\.")  # a device has no such command
_JETPACK = (
    "On a Jetson it comes with JetPack: sudo apt install python3-libnvinfer, and make the virtual "
    "environment with --system-site-packages."
)


@dataclass(frozen=True)
class Here:
    """What this device has.

    Attributes:
        trt: TensorRT's module.
        cuda: The module of CUDA's runtime API.
        place: `EnginePlace`: TensorRT, system and GPU.
    """

    trt: Any
    cuda: Any
    place: Any


@contextlib.contextmanager
def told(remedy: str = "") -> Iterator[None]:
    """Tell the toolkit's errors inside the block as those of a bundle.

    Args:
        remedy: What mends a file that is not as it should be: a sentence.

    Raises:
        CouldNotRun: A driver, GPU or package is missing, or the GPU failed.
        Refusal: A file is missing or damaged, or something does not fit it.
    """
    from edgepress.errors import DeviceFaultError, InputError, MissingDeviceError, MissingRuntimeError

    try:
        yield
    except (MissingDeviceError, MissingRuntimeError, DeviceFaultError) as error:
        raise CouldNotRun(_HINT.sub(".", str(error))) from error
    except InputError as error:
        raise Refusal(f"{_HINT.sub('.', str(error))} {remedy}".rstrip()) from error


def entry(manifest: Any, *keys: str) -> Any:
    """What manifest.json says somewhere.

    Raises:
        Refusal: Nothing.
    """
    found = manifest
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            raise Refusal(f"manifest.json has no {'.'.join(keys)}. {UNPACK}")
        found = found[key]
    return found


def is_built_here(manifest: Any) -> bool:
    """Whether the plan is to be built on the device, not in the bundle."""
    return bool(entry(manifest, "target", "delivery") == _BUILT_HERE)


def versions() -> dict[str, str]:
    """Of what computes the answers, by package. Without a GPU nothing of NVIDIA's is imported."""
    require_gpu()
    import numpy

    facts = _facts_of(load_manifest())
    trt = _module_of(facts)
    _cuda_module()
    return {
        "numpy": str(numpy.__version__),
        facts.distribution: str(trt.__version__),
        "cuda-python": _cuda_python_version(),
    }


def require_gpu() -> None:
    """Ask NVIDIA's driver for a GPU: without one, no package that is missing matters.

    Raises:
        CouldNotRun: There is none, with the driver's reason.
    """
    from edgepress.machine import cuda_device_absence

    if (reason := cuda_device_absence()) is not None:
        raise CouldNotRun(
            f"no NVIDIA GPU can be used here ({reason}), and the bundle is for one. Run it where nvidia-smi "
            "shows one, and see CUDA_VISIBLE_DEVICES."
        )


def here(manifest: Any) -> Here:
    """What this device has, asked in the order in which it is missed: driver, TensorRT, cuda-python, GPU.

    Raises:
        CouldNotRun: Something of it is missing or too old.
        Refusal: This TensorRT is none that the toolkit works with.
    """
    from edgepress.cuda.runtime import Cuda
    from edgepress.engine_card import EnginePlace
    from edgepress.local_gpu import LocalGpu, system_name
    from edgepress.tensorrt_flavour import flavour_of

    require_gpu()
    trt, module = _module_of(_facts_of(manifest)), _cuda_module()
    with told(INSTALL):
        cuda = Cuda(module)
        cuda.require_device()
        device = cuda.device()
        gpu = LocalGpu(device.name, device.compute_capability, None)
        return Here(trt, module, EnginePlace(flavour_of(trt), str(trt.__version__), system_name(), gpu))


def _facts_of(manifest: Any) -> Any:
    """The toolkit's row for the runtime of the bundle: names of its module and package."""
    from edgepress.artifact import Runtime
    from edgepress.tensorrt_flavour import facts_for

    try:
        return facts_for(Runtime(entry(manifest, "target", "runtime")))
    except (ValueError, StopIteration) as error:
        raise Refusal(f"manifest.json: target.runtime is no TensorRT ({error!r}). {UNPACK}") from error


def _module_of(facts: Any) -> Any:
    """TensorRT's module."""
    try:
        return importlib.import_module(facts.module)
    except ImportError as error:
        if getattr(error, "name", None) != facts.module:
            reason = " ".join(str(error).split())
            raise CouldNotRun(
                f"{facts.distribution} is here and cannot be loaded ({reason}). Install it again, with its "
                "libraries."
            ) from error
        is_jetson_like = facts.module == "tensorrt" and platform.machine() == "aarch64"
        hint = f"{INSTALL}. {_JETPACK}" if is_jetson_like else INSTALL
        raise CouldNotRun(f"{facts.distribution} is not here. {hint}") from error


def _cuda_module() -> Any:
    """The runtime API of cuda-python."""
    from edgepress.cuda.runtime import cuda_module
    from edgepress.errors import MissingRuntimeError

    try:
        return cuda_module()
    except MissingRuntimeError as error:
        raise CouldNotRun(f"cuda-python is not here. {INSTALL}") from error


def _cuda_python_version() -> str:
    """Of the package, or of the part of it that has the runtime API."""
    from importlib.metadata import PackageNotFoundError, version

    for package in ("cuda-python", "cuda-bindings"):
        with contextlib.suppress(PackageNotFoundError):
            return version(package)
    raise CouldNotRun(f"cuda-python is here without its version. {INSTALL}")


def check_payload(manifest: Any, folder: Path) -> str:
    """What can be told without a GPU: each plan is what its card and manifest.json say.

    Raises:
        Invalid: A plan in the bundle is not.
        Refusal: The engine that was built here is not, or manifest.json has no such list.
    """
    if is_built_here(manifest):
        return _check_engine(folder)
    facts, plans = _facts_of(manifest), _plans_in(manifest)
    sources = set()
    for plan in plans:
        card = _card_of(folder / plan["file"], UNPACK)
        sources.add(card.source_sha256)
        _require_alike(plan, card, facts, manifest)
    if len(sources) > 1:
        raise Invalid(f"the plans were built from {len(sources)} files, wanted one. {UNPACK}")
    names = ", ".join(f"{plan['file']} ({', '.join(plan['capabilities'])})" for plan in plans)
    return f"{names}: as {'its card says' if len(plans) == 1 else 'their cards say'}"


def _require_alike(plan: Any, card: Any, facts: Any, manifest: Any) -> None:
    """A plan's entry, its card and the file, which was hashed already, say the same.

    Raises:
        Invalid: They do not.
    """
    from edgepress.tensorrt_flavour import FLAVOURS

    name = plan["file"]
    found = entry(manifest, "files").get(name)
    if not found == plan["sha256"] == card.plan_sha256:
        raise Invalid(
            f"{name}: SHA-256 is {str(found)[:12]}…, the card says {card.plan_sha256[:12]}… and the list of "
            f"plans {plan['sha256'][:12]}…. {UNPACK}"
        )
    if tuple(plan["capabilities"]) != card.capabilities:
        raise Invalid(
            f"{name}: the card is for compute capability {', '.join(card.capabilities)}, the list of plans "
            f"says {', '.join(plan['capabilities'])}. {UNPACK}"
        )
    if FLAVOURS[card.flavour].runtime is not facts.runtime:
        raise Invalid(f"{name}: it is for {card.title}, and the bundle for {facts.distribution}. {UNPACK}")


def _check_engine(folder: Path) -> str:
    from edgepress.engine_card import require_whole

    path = folder / ENGINE_FOLDER / ENGINE
    if not path.is_file():
        return f"no engine yet. {BUILD}"
    card = _card_of(path, BUILD)
    with told(BUILD):
        require_whole(card, path)
    return f"{ENGINE_FOLDER}/{ENGINE} is as its card says"


def _card_of(path: Path, remedy: str) -> Any:
    """The card beside a plan.

    Raises:
        Refusal: There is none, or it is damaged.
    """
    from edgepress.engine_card import read_card
    from edgepress.errors import InputError

    try:
        return read_card(path)
    except InputError as error:
        raise Refusal(f"{error} {remedy}") from error


def _plans_in(manifest: Any) -> Any:
    """The list of plans, with everything in its place."""
    try:
        plans = manifest["plans"]
        is_sound = bool(plans) and all(_is_entry(plan) for plan in plans)
    except (KeyError, TypeError) as error:
        raise Refusal(f"manifest.json has no list of plans ({error!r}). {UNPACK}") from error
    if not is_sound:
        raise Refusal(f"manifest.json: plans is no list of plans. {UNPACK}")
    return plans


def _is_entry(plan: Any) -> bool:
    texts = [plan["file"], plan["sha256"], *plan["capabilities"]]
    return bool(plan["capabilities"]) and all(isinstance(text, str) for text in texts)


def plan_here(manifest: Any, folder: Path, place: Any) -> Path:
    """The plan that runs at a place.

    Args:
        manifest: Of the bundle.
        folder: It.
        place: `EnginePlace`.

    Raises:
        CouldNotRun: None does, with what there is; or none was built yet.
        Refusal: A card is damaged.
    """
    if is_built_here(manifest):
        return engine_here(manifest, folder, place)
    plan = _chosen(_plans_in(manifest), folder, place.gpu)
    if plan is None:
        known = sorted({each for one in _plans_in(manifest) for each in one["capabilities"]}, key=float)
        raise CouldNotRun(
            f"no plan of this bundle is for the {place.gpu.name} here (compute capability "
            f"{place.gpu.capability}): there are plans for {', '.join(known)}. Make a bundle with one for it."
        )
    path: Path = folder / plan["file"]
    _require_fit(path, place, plan["file"], INSTALL)
    return path


def _chosen(plans: Any, folder: Path, gpu: Any) -> Any:
    """The plan for a GPU: that for the fewest others; None for none."""
    from edgepress.engine_card import EnginePlace, mismatch

    named = [plan for plan in plans if gpu.capability in plan["capabilities"]]
    if named:
        return min(named, key=lambda plan: len(plan["capabilities"]))
    for plan in plans:  # one that was built for many runs on later GPUs, too
        card = _card_of(folder / plan["file"], UNPACK)
        if mismatch(card, EnginePlace(card.flavour, card.version, card.system, gpu)) is None:
            return plan
    return None


def engine_here(manifest: Any, folder: Path, place: Any) -> Path:
    """The engine that build.py made for this place, from this bundle's model.

    Raises:
        CouldNotRun: There is none, or one for something else.
        Refusal: Its card is damaged.
    """
    from edgepress.engine_card import card_path

    path, name = folder / ENGINE_FOLDER / ENGINE, f"{ENGINE_FOLDER}/{ENGINE}"
    if not path.is_file() or not card_path(path).is_file():
        raise CouldNotRun(f"there is no {name} with its card yet. {BUILD}")
    card, wanted = _card_of(path, BUILD), str(entry(manifest, "model", "sha256"))
    if card.source_sha256 != wanted:
        raise CouldNotRun(
            f"{name} was built from another model (SHA-256 {card.source_sha256[:12]}…, the bundle's is "
            f"{wanted[:12]}…). {BUILD}"
        )
    _require_fit(path, place, name, BUILD)
    return path


def _require_fit(path: Path, place: Any, name: str, remedy: str) -> None:
    from edgepress.engine_card import mismatch

    if (reason := mismatch(_card_of(path, BUILD), place)) is not None:
        raise CouldNotRun(f"{name} cannot run here: {reason} {remedy}")


class Session:
    """One plan on the GPU.

    Attributes:
        where: TensorRT's version, the GPU, its compute capability, whether TF32 is on, and the plan's file.
    """

    def __init__(self, runner: Any, name: str) -> None:
        self.where = f"{runner.evidence}, {name}"
        self._runner = runner

    def run(self, inputs: Any) -> Any:
        """(N, …) → (N, classes) float32."""
        with told(UNPACK):
            return self._runner.infer(inputs)

    def close(self) -> None:
        """Give the GPU's memory back."""
        with told():
            self._runner.__exit__(None, None, None)


def open_session(manifest: Any, folder: Path, threads: int = 0) -> Session:
    """A session on the first CUDA device; the threads do not matter."""
    del threads
    from edgepress.runners.tensorrt_runner import TensorRtRunner

    found = here(manifest)
    path = plan_here(manifest, folder, found.place)
    with told(BUILD if is_built_here(manifest) else UNPACK):
        runner = TensorRtRunner(path, lambda: (found.trt, found.cuda)).__enter__()
    return Session(runner, path.relative_to(folder).as_posix())
