"""Small Keras models for the export room."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.models.vgg16 import Style
from edgepress.preprocessing import Preprocessing, PreprocessMode
from export.stage import ExportRequest


@pytest.fixture
def batch_of_photos(crops_of_photos: Callable[[Preprocessing], NDArray[np.float32]]) -> NDArray[np.float32]:
    """(6, 32, 32, 3) inputs scaled to [-1, 1]."""
    return crops_of_photos(Preprocessing(PreprocessMode.TF, 32, 32))


@pytest.fixture
def request_for(tmp_path: Path) -> Callable[..., ExportRequest]:
    """Gives a request for a model, with everything else as it is by default, or as given."""

    def request(model: str | Path, **changes: Any) -> ExportRequest:
        default = ExportRequest(str(model), tmp_path / "out", tmp_path / "cache", style=Style.SEQUENTIAL)
        return replace(default, **changes)

    return request
