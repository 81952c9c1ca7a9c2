"""A fake of Triton Inference Server's HTTP side, with a real ONNX Runtime session behind it.

Paths, texts and refusals are those of Triton 2.51: the v2 protocol, binary tensors, the configuration, and a
largest batch that is enforced. In tests/deploy/test_triton_server.py the same client talks to the real one.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

HEADER_LENGTH = "Inference-Header-Content-Length"
EXTENSIONS = ["classification", "model_configuration", "binary_tensor_data", "statistics"]
NUMPY = {"FP32": "<f4", "UINT8": "u1"}
DATATYPES = {"tensor(float)": "FP32", "tensor(uint8)": "UINT8"}


class Fault(Enum):
    """What the server does wrong."""

    NONE = "none"
    SERVER_NOT_READY = "server not ready"  # another model failed
    NOT_READY = "not ready"  # nor this one
    ERROR_500 = "error 500"
    GARBAGE_500 = "garbage 500"  # with a body that is no JSON
    NO_JSON = "no JSON"
    JSON_LIST = "JSON list"
    TRUNCATED = "truncated"  # the connection ends before the announced length
    SHORT_TENSOR = "short tensor"  # whole by HTTP, but four bytes are missing
    OTHER_OUTPUT = "other output"
    OTHER_SHAPE = "other shape"  # in the answer to an inference
    HUGE = "huge"
    SLOW = "slow"  # nothing for a while
    DRIPPING = "dripping"  # a byte at a time
    HANGS_UP = "hangs up"  # after each answer, without saying so
    HANGS_UP_AT_ONCE = "hangs up at once"  # without any answer
    NO_HTTP = "no HTTP"


@dataclass
class FakeTriton:
    """What the server has, and what it was asked.

    Attributes:
        path: Of the ONNX file.
        name: Of the model.
        max_batch_size: As in config.pbtxt.
        parameters: As in config.pbtxt.
        fault: What goes wrong in inferences, or wherever it makes sense.
        about: Replaces fields of the server's own metadata.
        metadata: Replaces fields of the model's metadata.
        batches: Sizes of the batches that came.
        url: Of the server.
    """

    path: Path
    name: str = "small"
    max_batch_size: int = 8
    parameters: Mapping[str, str] = field(default_factory=dict)
    fault: Fault = Fault.NONE
    about: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    batches: list[int] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(self.path), options, providers=["CPUExecutionProvider"]
        )

    def answer(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a GET; None for an empty body."""
        model = f"/v2/models/{self.name}/versions/1"
        if path == "/v2":
            about = {"name": "triton", "version": "2.51.0", "extensions": EXTENSIONS}
            return 200, {**about, **self.about}
        if path == "/v2/health/ready":
            return (400 if self.fault in {Fault.NOT_READY, Fault.SERVER_NOT_READY} else 200), None
        if path == f"{model}/ready":
            return (400 if self.fault is Fault.NOT_READY else 200), None
        if path == model:
            return 200, {**self._metadata(), **self.metadata}
        if path == f"{model}/config":
            texts = {key: {"string_value": text} for key, text in self.parameters.items()}
            return 200, {"max_batch_size": self.max_batch_size, "parameters": texts}
        return 404, {"error": f"Request for unknown model: '{path.split('/')[3]}' is not found"}

    def _metadata(self) -> dict[str, Any]:
        def described(tensor: Any) -> dict[str, Any]:
            shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
            return {"name": tensor.name, "datatype": DATATYPES[tensor.type], "shape": shape}

        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [described(tensor) for tensor in self.session.get_inputs()],
            "outputs": [described(tensor) for tensor in self.session.get_outputs()],
        }

    def infer(self, header: Any, data: bytes) -> tuple[Any, bytes]:
        """JSON and bytes of the answer to an inference.

        Raises:
            ValueError: Triton refuses the request; its text.
        """
        (tensor,) = header["inputs"]
        known = self.session.get_inputs()[0]
        if tensor["name"] != known.name:
            raise ValueError(f"unexpected inference input '{tensor['name']}' for model '{self.name}'")
        if tensor["datatype"] != DATATYPES[known.type]:
            raise ValueError(f"inference input '{known.name}' data-type is '{tensor['datatype']}'")
        dtype, shape = np.dtype(NUMPY[tensor["datatype"]]), tensor["shape"]
        wanted = int(np.prod(shape)) * dtype.itemsize
        if tensor["parameters"]["binary_data_size"] != len(data) or wanted != len(data):
            raise ValueError(f"input byte size mismatch. Expected {wanted}, got {len(data)}")
        if self.max_batch_size and shape[0] > self.max_batch_size:
            raise ValueError(f"inference request batch-size must be <= {self.max_batch_size}")
        self.batches.append(shape[0])
        (output,) = header["outputs"]
        assert output["parameters"] == {"binary_data": True}
        inputs = np.frombuffer(data, dtype).reshape(shape)
        (found,) = self.session.run([output["name"]], {known.name: inputs})
        answer = {
            "name": output["name"],
            "datatype": "FP32",
            "shape": list(found.shape),
            "parameters": {"binary_data_size": found.nbytes},
        }
        if self.fault is Fault.OTHER_OUTPUT:
            answer["name"] = "other"
        if self.fault is Fault.OTHER_SHAPE:
            answer["shape"] = [found.shape[1], found.shape[0]]
        body = found.astype("<f4").tobytes()
        body = body[:-4] if self.fault is Fault.SHORT_TENSOR else body
        return {"model_name": self.name, "model_version": "1", "outputs": [answer]}, body


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name there
        """Nothing."""

    def do_GET(self) -> None:
        if self.server.fake.fault is Fault.NO_HTTP:
            self.wfile.write(b"220 mail.example ESMTP\r\n")
            self.close_connection = True
            return
        if self.server.fake.fault is Fault.HANGS_UP_AT_ONCE:
            self.close_connection = True
            return
        status, value = self.server.fake.answer(self.path)
        self._send(status, b"" if value is None else json.dumps(value).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.fake.fault in {Fault.ERROR_500, Fault.GARBAGE_500}:
            is_json = self.server.fake.fault is Fault.ERROR_500
            self._send(500, b'{"error":"out of\\nmemory"}' if is_json else b"<h1>Oops</h1>")
            return
        if self.server.fake.fault is Fault.SLOW:
            self.server.stop.wait(5)
        length = int(self.headers.get(HEADER_LENGTH, len(body)))
        try:
            header, tensors = self.server.fake.infer(json.loads(body[:length]), body[length:])
        except ValueError as error:
            self._send(400, json.dumps({"error": str(error)}).encode())
            return
        head = json.dumps(header).encode()
        if self.server.fake.fault in {Fault.NO_JSON, Fault.JSON_LIST}:
            head = b"{" if self.server.fake.fault is Fault.NO_JSON else b"[1]"
        if self.server.fake.fault is Fault.HUGE:
            tensors += bytes(3 << 20)
        self._send(200, head + tensors, len(head))

    def _send(self, status: int, body: bytes, header_length: int | None = None) -> None:
        self.send_response(status)
        if header_length is not None:
            self.send_header(HEADER_LENGTH, str(header_length))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.fake.fault is Fault.TRUNCATED and header_length is not None:
            self.wfile.write(body[:-5])
            self.close_connection = True
        elif self.server.fake.fault is Fault.DRIPPING and header_length is not None:
            self._drip(body)
        elif self.server.fake.fault is not Fault.HUGE:
            self.wfile.write(body)
        else:
            self._flood(body)
        if self.server.fake.fault is Fault.HANGS_UP:
            self.close_connection = True

    def _drip(self, body: bytes) -> None:
        for i in range(len(body)):
            if self.server.stop.is_set():
                break
            self.wfile.write(body[i : i + 1])
            time.sleep(0.02)

    def _flood(self, body: bytes) -> None:
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the client has had enough
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, fake: FakeTriton) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fake = fake
        self.stop = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serving(fake: FakeTriton) -> Iterator[FakeTriton]:
    """The fake, answering at `url` until the block ends."""
    with _Server(fake) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            server.stop.set()
            server.shutdown()
            thread.join()


def unused_url() -> str:
    """An address of this machine where nobody answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
