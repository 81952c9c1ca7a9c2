"""A fake of Triton's ONNX Runtime backend, for a Triton that has its Python backend alone.

The real server loads it as `backends/onnxruntime/model.py`, and does everything else itself: config.pbtxt,
requests, batches, labels. The session is a real one, on the CPU.
"""

# ruff: noqa: E402

import json
import os
import sys
from pathlib import Path
from typing import Any

# The interpreter within the server looks at its own packages only.
sys.path[:0] = os.environ["EDGEPRESS_TEST_PATH"].split(os.pathsep)

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]  # Triton brings it


class TritonPythonModel:
    """One instance of a model; the name is Triton's."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Nothing is completed: config.pbtxt has to say everything."""
        return config

    def initialize(self, arguments: "dict[str, str]") -> None:
        config = json.loads(arguments["model_config"])
        path = Path(
            arguments["model_repository"], arguments["model_version"], config["default_model_filename"]
        )
        if path.is_dir():
            path = path / "model.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(config["parameters"]["intra_op_thread_count"]["string_value"])
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = config["input"][0]["name"]
        self.outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: "list[Any]") -> "list[Any]":
        # DLPack, because Triton 2.51 sends numpy 2's arrays empty.
        answers = []
        for request in requests:
            inputs = np.from_dlpack(triton.get_input_tensor_by_name(request, self.input)).copy()
            found = self.session.run(self.outputs, {self.input: inputs})
            tensors = [
                triton.Tensor.from_dlpack(name, each) for name, each in zip(self.outputs, found, strict=True)
            ]
            answers.append(triton.InferenceResponse(tensors))
        return answers
