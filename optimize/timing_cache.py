"""Timings of kernels, kept between builds: a file for each TensorRT version and GPU."""

import re
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepress.files import write_bytes
from edgepress.local_gpu import LocalGpu


def cache_file(folder: Path, trt: ModuleType, gpu: LocalGpu) -> Path:
    """The file of a TensorRT version and a GPU: timings of another are no use, and TensorRT may take them."""
    key = "-".join((trt.__name__, trt.__version__, gpu.name, gpu.capability, gpu.driver or "unknown"))
    return folder / f"{re.sub(r'[^A-Za-z0-9.]+', '-', key).lower()}.timing"


def attach(config: Any, file: Path) -> None:
    """Give a builder's configuration the timings of a file, or none if it is not there or not taken."""
    content = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(content)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def keep(config: Any, file: Path) -> None:
    """Write a configuration's timings to a file, whole or not at all.

    Raises:
        InputError: The folder cannot be written to.
    """
    cache = config.get_timing_cache()
    if cache is not None:
        write_bytes(file, bytes(memoryview(cache.serialize())))
