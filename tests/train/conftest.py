"""Small labelled pictures for the train room."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from train.network import Head
from train.plan import TrainRequest


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image folder of noisy red, green and blue pictures (12 a class) of mixed size and mode."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for channel, name in enumerate(("red", "green", "blue")):
        (folder / name).mkdir()
        for i in range(12):
            pixels = random.integers(0, 120, (20 + 3 * i, 44 - 2 * i, 3), np.uint8)
            pixels[..., channel] += 120
            mode = ("RGB", "RGBA", "P", "CMYK")[i % 4]
            suffix = "jpg" if mode in {"RGB", "CMYK"} else "png"
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.{suffix}")
    return folder


@pytest.fixture
def train_request(tmp_path: Path, colours: Path) -> Callable[..., TrainRequest]:
    """Gives a request for a short training on random convolutions at 32×32, changed as asked."""

    def request(**changes: Any) -> TrainRequest:
        default = TrainRequest(
            data=str(colours),
            out=tmp_path / "out" / "colours.keras",
            cache=tmp_path / "cache",
            model="vgg16-digits",
            weights="random",
            head=Head(hidden=16, dropout=0.25),
            epochs=4,
            batch=8,
            learning_rate=0.01,
        )
        return replace(default, **changes)

    return request
