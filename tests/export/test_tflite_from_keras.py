from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepress.artifact import Device, Runtime
from edgepress.errors import InputError
from edgepress.models.keras_import import import_keras
from edgepress.parity import require_parity
from edgepress.runners.runner import runner_for
from export.tflite_from_keras import tflite_from_keras


def test_tflite_from_keras_has_one_picture_in_and_no_shape_arithmetic(
    tiny_layers: Callable[[], list[Any]], tmp_path: Path, batch_of_photos: NDArray[np.float32]
) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    keras = import_keras()
    *body, last = tiny_layers()
    last.activation = keras.activations.linear
    network = keras.Sequential([keras.Input((32, 32, 3)), *body, last])
    path = tmp_path / "m.tflite"
    tflite_from_keras(network, path)
    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    (signature,) = interpreter.get_signature_list().values()
    assert signature == {"inputs": ["images"], "outputs": ["logits"]}
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 32, 32, 3]
    operations = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert {"CONV_2D", "FULLY_CONNECTED"} <= operations
    assert not operations & {"SHAPE", "PACK", "STRIDED_SLICE", "BATCH_MATMUL"}
    with runner_for(Runtime.LITERT, Device.CPU)(path, 0) as runner:
        require_parity(np.asarray(network(batch_of_photos)), runner.infer(batch_of_photos), "tflite")


def test_tflite_from_keras_names_the_operation_that_would_need_flex(tmp_path: Path) -> None:
    keras = import_keras()
    images = keras.Input((8, 8, 3))
    network = keras.Model(images, keras.layers.GlobalAveragePooling2D()(keras.ops.erfinv(images)))
    with pytest.raises(InputError, match=r"TFLite has no built-in operation for: Erfinv\."):
        tflite_from_keras(network, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())
