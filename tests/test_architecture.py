"""The rooms keep to themselves: who may import whom, and nobody loads a framework by being imported."""

import ast
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("train", "export", "optimize", "benchmark", "deploy")
FRAMEWORKS = {
    *(
        "ai_edge_litert",
        "cryptography",
        "cuda",
        "h5py",
        "jinja2",
        "keras",
        "litert_quantizer",
        "matplotlib",
        "onnx",
        "onnxruntime",
        "openvino",
    ),
    *("PIL", "sklearn", "tensorflow", "tensorrt", "tensorrt_rtx", "tf2onnx"),
}
# TensorRT itself builds on the device, a Jetson with Python 3.10.
BUILDER = {"engine_from_onnx.py", "build_options.py", "build_watch.py", "timing_cache.py", "engine_refit.py"}
BUILDER_MODULES = [["optimize", name.removesuffix(".py")] for name in BUILDER]
BUILDS_ON_A_DEVICE = ROOT / "deploy" / "runtime" / "build.py"  # a bundle carries those beside it
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def modules() -> list[Path]:
    return [p for room in ("edgepress", *STAGES) for p in sorted((ROOT / room).rglob("*.py"))]


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_import_direction_holds(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    front_door = is_below(name, "edgepress.cli") or name == "edgepress.api"
    for module in imports_of(path):
        if room in STAGES:
            others = [stage for stage in STAGES if stage != room]
            if path == BUILDS_ON_A_DEVICE and module.split(".")[:2] in BUILDER_MODULES:
                continue
            assert not any(is_below(module, other) for other in others), f"{room} imports {module}"
        if room == "edgepress" and not front_door:
            assert not any(is_below(module, stage) for stage in STAGES), f"the core imports {module}"
        if not front_door:
            assert not is_below(module, "edgepress.cli"), f"{path.name} imports the front door"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "edgepress" / "runners").glob("*_runner.py")), ids=lambda p: p.name
)
def test_runner_leaf_imports_no_other_leaf(path: Path) -> None:
    leaves = {p.stem for p in path.parent.glob("*_runner.py")} - {path.stem}
    assert not {module.rsplit(".", 1)[-1] for module in imports_of(path)} & leaves


def test_file_names_say_what_is_inside() -> None:
    assert not [p for p in modules() if p.stem in FORBIDDEN_NAMES]


def test_importing_every_room_loads_no_framework() -> None:
    names = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for p in modules()
        if p.name != "__main__.py"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(sorted(set(m.split('.')[0] for m in sys.modules) & set({sorted(FRAMEWORKS)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


WITHOUT_NUMPY = """
import sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "numpy":
            raise ImportError("numpy was built for another CPU")

sys.meta_path.insert(0, Broken())
from edgepress.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (("completion", "bash"), 0, ""),
        (("doctor", "--help"), 0, ""),
        (("inspect", "vgg16", "--quiet"), 0, ""),
        (
            ("optimize", "docs"),
            2,
            "edgepress: numpy was built for another CPU. "
            "Run `edgepress doctor`: it says what is wrong here.\n",
        ),
    ],
)
def test_command_line_needs_no_numpy_until_a_command_does(
    words: tuple[str, ...], exit_code: int, message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY, *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr) == (exit_code, message)


def test_no_other_distribution_owns_our_import_names() -> None:
    owners = importlib.metadata.packages_distributions()
    for name in ("edgepress", *STAGES):
        assert set(owners.get(name, [])) <= {"edgepress"}
        found = importlib.util.find_spec(name)
        assert found is not None
        assert found.origin is not None
        assert Path(found.origin).is_relative_to(ROOT)


def test_device_side_reads_as_python_3_10() -> None:
    for path in modules():
        parts = path.relative_to(ROOT).parts
        builds = parts[0] == "optimize" and path.name in BUILDER
        if builds or parts[0] == "benchmark" or (parts[0] == "edgepress" and parts[1] != "cli"):
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
