"""The original network's own numbers, from the published weights: https://keras.io/api/applications.

They are not downloaded here. Where they, or pictures, are not there, a test is skipped and says what it
lacks.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepress.artifact import Device
from edgepress.manifest import Manifest
from edgepress.metrics import wilson_ci95
from edgepress.runners.runner import runner_for

pytestmark = [pytest.mark.slow]

PUBLISHED_TOP1, PUBLISHED_TOP5 = 0.713, 0.901
ELEPHANTS = {"African elephant", "Indian elephant", "tusker"}

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def _known_file(variable: str, cached: str, what: str) -> Path:
    """A file that an environment variable names, or that Keras has in its cache."""
    given = os.environ.get(variable)
    path = Path(given) if given else Path.home() / ".keras" / cached
    if not path.exists():
        pytest.skip(f"{what}: {variable} is not set, and Keras' cache has no {cached}")
    return path


@pytest.fixture(scope="module")
def imagenet(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = _known_file(
        "EDGEPRESS_IMAGENET_WEIGHTS",
        "models/vgg16_weights_tf_dim_ordering_tf_kernels.h5",
        "no ImageNet weights of VGG16",
    )
    folder = tmp_path_factory.mktemp("imagenet") / "out"
    done = cli("export", "vgg16", "--weights", weights, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_format_sees_the_elephant(imagenet: Path) -> None:
    picture = _known_file("EDGEPRESS_ELEPHANT", "datasets/elephant.jpg", "no picture of the elephant")
    manifest = Manifest.load(imagenet)
    model = manifest.model
    assert model.labels is not None
    with Image.open(picture) as image:
        pixels = model.preprocessing.crop(image)[np.newaxis]
    for artifact in manifest.artifacts:
        with runner_for(artifact.runtimes[0], Device.CPU)(manifest.path_of(artifact), 0) as runner:
            (logits,) = runner.infer(artifact.interface.feed(pixels, model.preprocessing))
        best = [model.labels[i] for i in np.argsort(-logits)[:3]]
        assert best[0] in ELEPHANTS, f"{artifact.id}: {best}"
        assert set(best) == ELEPHANTS, f"{artifact.id}: {best}"


def test_accuracy_is_the_published_one(imagenet: Path, cli: Cli) -> None:
    data = os.environ.get("EDGEPRESS_IMAGENET")
    if not data:
        pytest.skip("EDGEPRESS_IMAGENET is not set: no validation pictures in 1,000 class folders")
    done = cli("benchmark", imagenet, "--data", data, "--quick", "--variant", "onnx-fp32", timeout=7200)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((imagenet / "results.json").read_text())["results"]
    accuracy = row["accuracy"]
    for published, found in ((PUBLISHED_TOP1, accuracy["top1"]), (PUBLISHED_TOP5, accuracy["top5"])):
        low, high = wilson_ci95(found, accuracy["images"])
        # Half a point for the resizing, which the published figure does not describe.
        assert low - 0.005 <= published <= high + 0.005
