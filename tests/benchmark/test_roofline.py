"""Floors against numbers that were computed by hand."""

from dataclasses import replace

import pytest

from benchmark.roofline import Bound, Ceilings, GemmRate, Roofline, roofline_of
from edgepress.artifact import Precision, TensorSpec
from edgepress.inspection.inspection_vgg16 import inspect_architecture
from edgepress.inspection.layer import Inspection, Layer
from edgepress.models.vgg16 import VGG16

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
MS = 1e6
MACHINE = Ceilings(
    threads=4,
    gemm=(GemmRate(FP32, 100e9, "a BLAS", 2048), GemmRate(INT8, 400e9, "a runtime", 2048)),
    read_bytes_per_s=10e9,
    copy_bytes_per_s=8e9,
    last_level_cache_bytes=8_000_000,
    notes=(),
)


def layer(name: str, macs: int, computed: Precision, **more: object) -> Layer:
    made = Layer(name, 1_000_000, macs, computed, computed, output_shape=(10, 10, 100))
    return replace(made, **more)  # type: ignore[arg-type]


def model(*layers: Layer, **more: object) -> Inspection:
    image = TensorSpec("images", (None, 10, 10, 3), "float32")
    return replace(Inspection(layers, 0, 0, (image,), ()), **more)  # type: ignore[arg-type]


def test_vgg16_on_one_picture() -> None:
    found = roofline_of(inspect_architecture(VGG16), 200 * MS, MACHINE)
    weights = 138_357_544 * 4
    convolutions = 2 * 64 * 224**2 + 2 * 128 * 112**2 + 3 * 256 * 56**2 + 3 * 512 * 28**2 + 3 * 512 * 14**2
    moved = weights + 2 * (convolutions + 2 * 4096 + 1000) * 4 + 224 * 224 * 3 * 4
    assert found is not None
    assert (found.macs, found.moved_bytes) == (15_470_264_320, moved)
    assert found.compute_floor_ns == pytest.approx(154.7026432 * MS)  # 15.47 G at 100 G/s
    assert found.memory_floor_ns == pytest.approx(66.2485984 * MS)  # 662 MB at 10 GB/s
    assert found.achieved == pytest.approx(0.773513216)
    assert (found.bound_by, found.note) == (Bound.COMPUTE, None)


def test_a_dense_layer_of_many_weights_is_bound_by_memory() -> None:
    dense = layer("dense", 25_000_000, FP32, parameters=25_000_000, biases=10, output_shape=(10,))
    found = roofline_of(model(dense), 12.5 * MS, MACHINE)
    moved = 100_000_000 + 40 + 2 * 10 * 4 + 300 * 4
    assert found == Roofline(
        25_000_000, moved, 0.25 * MS, moved / 10, moved / 10 / (12.5 * MS), Bound.MEMORY, None
    )


def test_precisions_count_at_their_own_rates_and_sizes() -> None:
    found = roofline_of(model(layer("a", 10**9, FP32), layer("b", 10**9, INT8)), 100 * MS, MACHINE)
    assert found is not None
    assert found.compute_floor_ns == pytest.approx(10 * MS + 2.5 * MS)
    assert found.moved_bytes == 5_000_000 + 2 * 10_000 * (4 + 1) + 300 * 4
    assert found.memory_floor_ns is None  # 5.1 MB stay in a cache of 8 MB
    assert found.achieved == pytest.approx(0.125)
    assert found.bound_by is Bound.COMPUTE


def test_bytes_come_from_memory_where_no_cache_is_known() -> None:
    unknown = replace(MACHINE, last_level_cache_bytes=None)
    found = roofline_of(model(layer("a", 10**6, INT8)), MS, unknown)
    assert found is not None
    assert found.memory_floor_ns == pytest.approx((1_000_000 + 20_000 + 1_200) / 10)
    assert found.bound_by is Bound.MEMORY


def test_fp16_counts_at_the_rate_of_fp32_unless_it_has_one() -> None:
    half = model(layer("a", 10**9, FP16))
    found = roofline_of(half, 20 * MS, MACHINE)
    assert found is not None
    assert found.compute_floor_ns == pytest.approx(10 * MS)
    assert found.note == "FP16 layers count at FP32's rate: none was measured for FP16 here"
    quick = replace(MACHINE, gemm=(*MACHINE.gemm, GemmRate(FP16, 200e9, "a runtime", 2048)))
    found = roofline_of(half, 20 * MS, quick)
    assert found is not None
    assert found.compute_floor_ns == pytest.approx(5 * MS)
    assert found.note is None


def test_above_one_says_why() -> None:
    found = roofline_of(model(layer("a", 10**9, FP32)), 5 * MS, MACHINE)
    assert found is not None
    assert found.achieved == pytest.approx(2)
    assert found.note is not None
    assert "Winograd" in found.note


def test_ceilings_of_a_busy_machine_are_said_to_be_low() -> None:
    alone, busy = (replace(MACHINE, others_cpu=share) for share in (0.05, 0.48))
    found = [roofline_of(model(layer("a", 10**9, FP32)), 50 * MS, machine) for machine in (alone, busy)]
    assert [roofline and roofline.note for roofline in found] == [
        None,
        "other processes took 48% of the cores while the ceilings were measured: the floor may be too high",
    ]


def test_what_cannot_be_counted_is_named() -> None:
    odd = model(layer("a", 10**9, FP32, output_shape=(None, 8)), uncounted=("a loop",))
    found = roofline_of(odd, 50 * MS, MACHINE)
    assert found is not None
    assert found.moved_bytes == 4_000_000 + 300 * 4
    assert found.note == "not counted: a loop; values of unknown shape are not among the bytes: a"


@pytest.mark.parametrize(
    ("inspection", "ceilings"),
    [
        (model(), MACHINE),
        (model(layer("a", 0, FP32)), MACHINE),
        (model(layer("a", 10**9, INT8)), replace(MACHINE, gemm=MACHINE.gemm[:1])),
        (model(layer("a", 10**9, FP16)), replace(MACHINE, gemm=MACHINE.gemm[1:])),
        (model(layer("a", 10**9, FP32)), Ceilings(1, (), None, None, None, ("CUDA",))),
    ],
    ids=["no layers", "no MACs", "no INT8 rate", "neither FP16 nor FP32 rate", "no rates at all"],
)
def test_there_is_no_roofline_without_macs_or_rates(inspection: Inspection, ceilings: Ceilings) -> None:
    assert roofline_of(inspection, MS, ceilings) is None
