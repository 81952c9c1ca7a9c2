"""Build this bundle's engine on this device (`python build.py`): minutes, once for each TensorRT and GPU.

TensorRT tries kernels on the GPU at hand, so a Jetson's or a server's engine is built there, from model.onnx,
in whose precision it computes. It lies in engine/ with its card, and with the times of the kernels, which
make the next build faster. Whether it is right, verify.py tells by its answers to the golden pictures.

Exit code 0: there is an engine for this device; 1: TensorRT could not build it; 2: not tried, or interrupted.

SPDX-License-Identifier: Apache-2.0
"""

import argparse
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
    from deploy.runtime import checks
    from deploy.runtime import tensorrt_backend as backend
    from deploy.runtime.bundle import HERE, INSTALL, UNPACK, CouldNotRun, Invalid, Refusal
else:  # beside it, on a device
    import backend
    import checks
    from bundle import HERE, INSTALL, UNPACK, CouldNotRun, Invalid, Refusal

_MIB = 1 << 20
# Peak memory of whole builds of VGG16 in FP32, FP16 and INT8 (553, 277 and 138 MB) with TensorRT-RTX 1.7.1:
# 3.0, 2.2 and 1.9 GB. That of other TensorRTs was not measured.
_MEMORY_BYTES, _MEMORY_SHARE = 1_500_000_000, 2.8
_DISK_BYTES, _DISK_SHARE = 64 * _MIB, 1.25  # weights, kernels, and the timings
_TOLD_PERCENT = 10


class Failed(Exception):  # noqa: N818  # what a build has
    """TensorRT or the GPU failed at it."""


def build(options: argparse.Namespace) -> str:
    """Build the engine unless there is one that fits, and say what was done.

    Raises:
        CouldNotRun: A driver, GPU, package, memory or version is missing, or the GPU is another one.
        Refusal: The bundle has no engine to build, or the disk is too small or must not be written to.
        Invalid: model.onnx or manifest.json is not what was delivered.
        Failed: TensorRT could not build it.
        KeyboardInterrupt: The user ended it. In each of these cases nothing half-written is left.
    """
    from edgepress.files import make_folder
    from edgepress.lock import exclusive

    manifest = checks.read_manifest()
    if not backend.is_built_here(manifest):
        raise Refusal("this bundle has its plans already, and no engine to build. Run: python verify.py")
    print(f"machine: {checks.check_machine(manifest)}")
    print(f"versions: {checks.check_versions(manifest)}", flush=True)
    here = backend.here(manifest)
    _require_capability(manifest, here.place.gpu, is_any_allowed=options.any_gpu)
    folder = HERE / backend.ENGINE_FOLDER
    with backend.told():
        make_folder(folder)
        with exclusive(folder):
            if not options.force and _is_current(manifest, here, options):
                return f"{backend.ENGINE_FOLDER}/{backend.ENGINE} is up to date (--force builds it anew)"
            _require_room(manifest, here, folder, is_forced=options.force)
            return _built(manifest, here, folder, options)


def _require_capability(manifest: Any, gpu: Any, *, is_any_allowed: bool) -> None:
    wanted = backend.entry(manifest, "target", "capabilities")
    if gpu.capability not in wanted and not is_any_allowed:
        raise CouldNotRun(
            f"the bundle is for compute capability {', '.join(wanted)}, and the {gpu.name} here has "
            f"{gpu.capability}. Make one for it, or try all the same: python build.py --any-gpu"
        )


def _is_current(manifest: Any, here: Any, options: argparse.Namespace) -> bool:
    """Whether the engine that is there is what would be built; how long TensorRT looked, no card tells."""
    from edgepress.engine_card import read_card, require_whole
    from edgepress.errors import InputError
    from edgepress.local_gpu import local_gpu
    from optimize.build_options import flags_of

    if options.optimization_level is not None or options.workspace is not None:
        return False
    try:
        path = backend.engine_here(manifest, HERE, here.place)
        card = read_card(path)
        require_whole(card, path)
    except (CouldNotRun, Refusal, InputError) as reason:
        print(f"building, since {reason}", flush=True)
        return False
    name = local_gpu().name
    if card.gpu != name:  # it would run, with kernels that were timed on another GPU
        print(f"building, since the engine was built on a {card.gpu}, and here is a {name}", flush=True)
    return card.gpu == name and set(card.flags) == flags_of(_build_options(options))


def _build_options(options: argparse.Namespace) -> Any:
    from optimize.build_options import BuildOptions, Tf32

    return BuildOptions(
        tf32=Tf32.ON if options.tf32 else Tf32.OFF,
        workspace_bytes=None if options.workspace is None else options.workspace * _MIB,
        optimization_level=options.optimization_level,
        timing_cache=HERE / backend.ENGINE_FOLDER,
    )


def _require_room(manifest: Any, here: Any, folder: Path, *, is_forced: bool) -> None:
    """Refuse what would end half-way, for lack of disk or memory."""
    from edgepress.cuda.runtime import Cuda
    from edgepress.doctor.memory_state import MemoryState, memory_state_under
    from edgepress.files import require_disk

    model_bytes = (HERE / manifest["model"]["file"]).stat().st_size
    require_disk(folder, round(_DISK_SHARE * model_bytes) + _DISK_BYTES, "The engine")
    if is_forced:
        return
    needed_bytes, state = _MEMORY_BYTES + round(_MEMORY_SHARE * model_bytes), memory_state_under(Path("/"))
    if isinstance(state, MemoryState) and state.available_bytes < needed_bytes:
        raise CouldNotRun(
            f"building takes about {needed_bytes / 1e9:.1f} GB of memory, and "
            f"{state.available_bytes / 1e9:.1f} GB are free. "
            "End other programs, or try all the same: python build.py --force"
        )
    gpu_bytes = Cuda(here.cuda).memory().total_bytes
    if gpu_bytes < 2 * model_bytes:
        raise CouldNotRun(
            f"building takes at least {2 * model_bytes / 1e9:.1f} GB of the GPU's memory, and it has "
            f"{gpu_bytes / 1e9:.1f} GB. Make a bundle of a smaller model or precision."
        )


def _built(manifest: Any, here: Any, folder: Path, options: argparse.Namespace) -> str:
    """Build beside the engine that is there, and put the new one into its place at the end."""
    from edgepress.errors import DeviceFaultError, ProofError
    from edgepress.files import scratch_folder, sha256_of_file
    from edgepress.local_gpu import local_gpu
    from optimize.engine_from_onnx import engine_from_onnx

    model, started = HERE / manifest["model"]["file"], time.perf_counter()
    if (found := sha256_of_file(model)) != backend.entry(manifest, "model", "sha256"):
        raise Invalid(f"{model.name} was changed: SHA-256 is {found[:12]}…. {UNPACK}")
    gpu, lines = local_gpu(), Lines()
    with scratch_folder(folder) as scratch:
        plan = scratch / backend.ENGINE
        try:
            done = engine_from_onnx(here.trt, model, plan, gpu, _build_options(options), lines)
        except (ProofError, DeviceFaultError) as error:
            raise Failed(str(error)) from error
        card = done.card_of(plan, model, manifest["model"].get("calibration"))
        _place(plan, card, folder / backend.ENGINE)
    seconds = time.perf_counter() - started
    return (
        f"{backend.ENGINE_FOLDER}/{backend.ENGINE} was built for the {gpu.name} ({gpu.capability}) with "
        f"{card.title}: {card.plan_bytes / 1e6:.1f} MB in {seconds:.0f} s"
    )


def _place(plan: Path, card: Any, place: Path) -> None:
    """Put a plan and its card where an engine is looked for.

    Ctrl-C waits until both are there. A process that is killed between them leaves a plan without a card,
    which nothing takes for an engine.
    """
    from edgepress.engine_card import card_path, write_card
    from edgepress.files import writing
    from optimize.build_watch import interruptible

    with interruptible(), writing(place):
        card_path(place).unlink(missing_ok=True)
        plan.replace(place)
        write_card(card, place)


class Lines:
    """Tells how far a build is, a line for each tenth."""

    def __init__(self) -> None:
        self._next, self._started = 0, time.perf_counter()

    def __call__(self, task: str, done: int, total: int) -> None:
        """See `edgepress.progress.Progress`."""
        percent = 100 * done // total
        if percent >= self._next:
            self._next = percent - percent % _TOLD_PERCENT + _TOLD_PERCENT
            print(f"{task}: {percent} % after {time.perf_counter() - self._started:.0f} s", flush=True)


def main() -> int:
    """Build, and say what is next; one line on stderr where there is no engine."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a path is any text
    options = _parsed()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(build(options))
    except (CouldNotRun, Refusal) as error:
        return _ended(str(error), 2)
    except (Invalid, Failed) as error:
        return _ended(str(error), 1)
    except KeyboardInterrupt:
        return _ended("interrupted; nothing half-written is left", 2)
    except ImportError as error:
        return _ended(f"{error}. {INSTALL}", 2)
    print("Now run: python verify.py")
    return 0


def _ended(message: str, code: int) -> int:
    print(f"build: {' '.join(message.split())}", file=sys.stderr)
    return code


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build the engine of this bundle on this device.")
    add = parser.add_argument
    add("--force", action="store_true", help="also if it is up to date, or memory seems too little")
    add("--any-gpu", action="store_true", help="also for a GPU that the bundle was not made for")
    add("--tf32", action="store_true", help="FP32 products with 10 bits of mantissa: faster, less exact")
    add(
        "--optimization-level",
        type=int,
        choices=range(6),
        metavar="0…5",
        help="how long TensorRT looks for faster kernels (default: 3)",
    )
    add("--workspace", type=int, metavar="MIB", help="most memory of the GPU for a layer (default: all)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
