"""Runs a bundle's model on a Triton Inference Server (in a bundle: backend.py).

Source: the Open Inference Protocol, version 2, over HTTP, with Triton's extensions for binary tensors and
for the model's configuration. The server is at EDGEPRESS_TRITON_URL, or at http://localhost:8000.

SPDX-License-Identifier: Apache-2.0
"""

import http.client
import json
import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING or __package__:
    from deploy.runtime.bundle import INSTALL, UNPACK, CouldNotRun, Refusal
else:  # beside it, on a device
    from bundle import INSTALL, UNPACK, CouldNotRun, Refusal

URL_VARIABLE = "EDGEPRESS_TRITON_URL"
DEFAULT_URL = "http://localhost:8000"
IMAGE = "nvcr.io/nvidia/tritonserver:26.06-py3"  # as in serve.sh
CONNECT_PATIENCE_S = 5.0
PATIENCE_S = 120.0  # for a whole answer
_LARGEST_JSON_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16
_HEADER_LENGTH = "Inference-Header-Content-Length"
_DATATYPES = {"float32": "FP32", "uint8": "UINT8"}
_PLATFORMS = {".onnx": "onnxruntime", ".plan": "tensorrt"}
_EXTENSIONS = ("binary_tensor_data", "model_configuration")


def versions() -> "dict[str, str]":
    """Of the packages that matter here."""
    try:
        import numpy as np
    except ImportError as error:
        raise CouldNotRun(f"a package is missing ({error}). {INSTALL}") from error
    return {"numpy": str(np.__version__)}


def open_session(manifest: Any, folder: Path, threads: int = 0) -> "Session":
    """A session with a server that is ready and has this very model.

    Args:
        manifest: manifest.json, parsed.
        folder: Of the bundle.
        threads: 0; the server's configuration says how many there are.

    Raises:
        Refusal: The server has another model under that name, or is none that this can talk to; `threads` is
            set; the manifest names no model.
        CouldNotRun: No server answers, or it is not ready.
    """
    if threads:
        raise Refusal(
            f"The server's config.pbtxt says how many threads there are, got {threads}. Leave them out here, "
            "or set intra_op_thread_count there."
        )
    wanted = _Wanted(manifest, folder)
    server = _Server(os.environ.get(URL_VARIABLE) or DEFAULT_URL, wanted.start)
    try:
        return Session(server, wanted)
    except BaseException:
        server.close()
        raise


class Session:
    """A model on a server.

    Attributes:
        where: What runs it, in words.
    """

    def __init__(self, server: "_Server", wanted: "_Wanted") -> None:
        self._server = server
        self._wanted = wanted
        about = _require_triton(server)
        _require_ready(server, wanted)
        platform = _require_same(server, wanted)
        self._largest = _largest_batch(server, wanted)
        self.where = (
            f"{about} at {server.url}, model {wanted.name} version {wanted.version} ({platform}), ready"
        )

    def run(self, inputs: Any) -> Any:
        """The first output, in as many requests as the model's largest batch asks for.

        Args:
            inputs: (N, …) float32 or uint8, as the manifest says.

        Returns:
            (N, classes) float32.

        Raises:
            Refusal: The inputs are not what the model takes, or the server's answer is no answer.
            CouldNotRun: The server is gone, or takes too long.
        """
        import numpy as np

        self._wanted.require_inputs(inputs, self._largest)
        starts = range(0, len(inputs), self._largest)
        blocks = [self._infer(inputs[start : start + self._largest]) for start in starts]
        return np.concatenate(blocks)

    def close(self) -> None:
        """Close the connection. The server goes on."""
        self._server.close()

    def _infer(self, block: Any) -> Any:
        import numpy as np

        wanted = self._wanted
        little_endian = block.dtype.newbyteorder("<")
        data = np.ascontiguousarray(block, little_endian).tobytes()
        head = json.dumps(
            {
                "inputs": [
                    {
                        "name": wanted.input["name"],
                        "shape": list(block.shape),
                        "datatype": _DATATYPES[wanted.input["dtype"]],
                        "parameters": {"binary_data_size": len(data)},
                    }
                ],
                "outputs": [{"name": wanted.output["name"], "parameters": {"binary_data": True}}],
            }
        ).encode()
        size = 4 * len(block) * wanted.classes
        answer = self._server.ask(
            f"{wanted.path}/infer",
            head + data,
            {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(head))},
            largest=size + _LARGEST_JSON_BYTES,
        )
        scores = _scores_of(answer.succeeded("infer"), wanted, (len(block), wanted.classes))
        return np.frombuffer(scores, "<f4").reshape(len(block), wanted.classes).astype(np.float32)


class _Wanted:
    """What the manifest says of the model."""

    def __init__(self, manifest: Any, folder: Path) -> None:
        try:
            self.name, self.version = str(manifest["triton"]["model"]), int(manifest["triton"]["version"])
            self.sha256 = manifest["triton"].get("sha256")
            inputs, outputs = manifest["model"]["inputs"], manifest["model"]["outputs"]
            self.input, self.output = inputs[0], outputs[0]
            is_batched = all(tensor["shape"][:1] == [None] for tensor in [*inputs, *outputs])
            self.inputs = _expected(inputs, is_batched=is_batched)
            self.outputs = _expected(outputs, is_batched=is_batched)
            self.classes = int(self.output["shape"][-1])
            self.backend = _PLATFORMS[Path(manifest["model"]["file"]).suffix]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise Refusal(
                f"manifest.json says too little of the server's model ({error!r}). {UNPACK}"
            ) from error
        self.path = f"/v2/models/{quote(self.name, safe='')}/versions/{self.version}"
        place = shlex.quote(f"{folder / 'model_repository'}:/models:ro")
        gpus = "--gpus all " if self.backend == "tensorrt" else ""
        self.start = (
            f"docker run --rm {gpus}-p 127.0.0.1:8000:8000 -v {place} {IMAGE} tritonserver "
            "--model-repository=/models"
        )

    def require_inputs(self, inputs: Any, largest: int) -> None:
        """Refuse what the server would refuse, or would take for something else."""
        batch, *rest = self.input["shape"]
        fits = inputs.dtype == self.input["dtype"] and list(inputs.shape[1:]) == rest and len(inputs)
        if not fits or (batch is not None and len(inputs) % largest):
            shape = tuple("N" if size is None else size for size in self.input["shape"])
            raise Refusal(
                f"{self.name} takes {self.input['dtype']} of shape ({', '.join(map(str, shape))}), got "
                f"{inputs.dtype} {inputs.shape}. Prepare the pictures with preprocessing.py."
            )


def _expected(tensors: Any, *, is_batched: bool) -> "list[tuple[str, str, list[int]]]":
    """(name, datatype, shape) of each, as the server calls them."""
    found = []
    for tensor in tensors:
        shape = [-1 if size is None else int(size) for size in tensor["shape"]]
        if is_batched and len(shape) == 1:
            shape.append(1)  # Triton wants a dimension beside the batch
        found.append((str(tensor["name"]), _DATATYPES[tensor["dtype"]], shape))
    return sorted(found)


def _require_triton(server: "_Server") -> str:
    """The server's name and version; it has the extensions that this needs."""
    about = server.ask("/v2").json("the server")
    extensions = about.get("extensions")
    missing = [name for name in _EXTENSIONS if not isinstance(extensions, list) or name not in extensions]
    if missing:
        raise Refusal(
            f"{server.url} is {about.get('name')!r} without the extension {' and '.join(missing)}, wanted "
            f"Triton Inference Server. Name one with {URL_VARIABLE}."
        )
    return f"{str(about.get('name')).capitalize()} {about.get('version')}"


def _require_ready(server: "_Server", wanted: _Wanted) -> None:
    # One model that failed makes the whole server not ready: this one may be ready nevertheless.
    if server.ask("/v2/health/ready").status == 200:
        return
    if server.ask(f"{wanted.path}/ready").status != 200:
        raise CouldNotRun(
            f"{server.url} is not ready, and nor is its model {wanted.name} version {wanted.version}. Wait, "
            "or read the server's log."
        )


def _require_same(server: "_Server", wanted: _Wanted) -> str:
    """The platform of the server's model; its inputs and outputs are those of the manifest."""
    about = server.ask(wanted.path).json(f"the model {wanted.name} version {wanted.version}")
    try:
        found = [
            sorted((t["name"], t["datatype"], [int(n) for n in t["shape"]]) for t in about[side])
            for side in ("inputs", "outputs")
        ]
        name, platform, served = about["name"], str(about["platform"]), about["versions"]
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(
            f"{server.url} says too little of {wanted.name} ({error!r}). Use Triton Inference Server."
        ) from error
    if name != wanted.name or str(wanted.version) not in served:
        raise _other(server, f"{wanted.name} version {wanted.version}", f"{name} version {served}")
    for side, tensors, there in zip(
        ("inputs", "outputs"), (wanted.inputs, wanted.outputs), found, strict=True
    ):
        if there != tensors:
            raise _other(server, f"{side} {_words(tensors)}", _words(there))
    if platform.partition("_")[0] != wanted.backend:
        raise _other(server, f"{wanted.name} by {wanted.backend}", platform)
    return platform


def _largest_batch(server: "_Server", wanted: _Wanted) -> int:
    """Pictures in a request: the server's limit, or the model's own batch where that is fixed."""
    about = server.ask(f"{wanted.path}/config").json(f"the configuration of {wanted.name}")
    try:
        largest = int(about["max_batch_size"])
        sha256 = about["parameters"]["edgepress_sha256"]["string_value"] if wanted.sha256 else None
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(
            f"{server.url} has no {error} in the configuration of {wanted.name}. Serve model_repository of "
            f"this bundle: {wanted.start}"
        ) from error
    if sha256 != wanted.sha256:
        raise _other(server, f"{wanted.name} of SHA-256 {wanted.sha256[:12]}…", f"{str(sha256)[:12]}…")
    batch = wanted.input["shape"][0]
    return largest if batch is None and largest > 0 else int(batch or 1)


def _other(server: "_Server", wanted: str, got: str) -> Refusal:
    return Refusal(
        f"{server.url} has another model: wanted {wanted}, got {got}. Serve model_repository of this bundle."
    )


def _words(tensors: "list[tuple[str, str, list[int]]]") -> str:
    return ", ".join(f"{name} {datatype} {shape}" for name, datatype, shape in tensors)


def _scores_of(answer: "_Answer", wanted: _Wanted, shape: "tuple[int, int]") -> bytes:
    """The bytes of the first output.

    The JSON object comes first, then the tensors' bytes in its order; this request asks for one output.
    """
    length = answer.header_bytes
    try:
        (output,) = json.loads(answer.body[:length])["outputs"]
        found = output["name"], output["datatype"], tuple(output["shape"])
        size = output["parameters"]["binary_data_size"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Refusal(f"The server's answer cannot be read ({error!r}). Read the server's log.") from error
    right, whole = (wanted.output["name"], "FP32", shape), 4 * shape[0] * shape[1]
    data = answer.body[length:]
    if found != right or size != whole or len(data) != whole:
        raise Refusal(
            f"The server's answer is not what was asked for: wanted {right} in {whole} bytes, got {found} in "
            f"{len(data)}. Read the server's log."
        )
    return data


class _Answer:
    """What came back: status, body, and how many of its bytes are JSON."""

    def __init__(self, url: str, status: int, body: bytes, header_length: "str | None") -> None:
        self.url = url
        self.status = status
        self.body = body
        self.header_bytes = len(body)
        if header_length is not None and header_length.isdecimal():
            self.header_bytes = min(int(header_length), len(body))

    def succeeded(self, what: str) -> "_Answer":
        """Itself, if the server did what it was asked for."""
        if self.status == 200:
            return self
        try:
            reason = str(json.loads(self.body)["error"])
        except (ValueError, KeyError, TypeError, RecursionError):
            reason = self.body[:200].decode(errors="replace")
        reason = " ".join(reason[:500].split()) or "no reason"
        raise Refusal(f"{self.url} refuses {what} ({self.status}: {reason}). Read the server's log.")

    def json(self, what: str) -> "dict[str, Any]":
        """The body as a JSON object."""
        self.succeeded(what)
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise Refusal(f"{self.url} gives no JSON for {what} ({error}). Is that Triton?") from error
        if not isinstance(value, dict):
            raise Refusal(f"{self.url} gives {type(value).__name__} for {what}, wanted an object.")
        return value


class _Server:
    """One connection, kept open between requests, and opened again where the server has closed it."""

    def __init__(self, url: str, start: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise Refusal(f"{URL_VARIABLE} is {url!r}: {error}. Give e.g. {DEFAULT_URL}.") from error
        if parts.scheme not in {"http", "https"} or not host:
            raise Refusal(f"{URL_VARIABLE} is {url!r}, wanted an address such as {DEFAULT_URL}.")
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._prefix = parts.path.rstrip("/")
        self._start = start
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection: Any = kind(host, port, timeout=CONNECT_PATIENCE_S)

    def ask(
        self,
        path: str,
        body: "bytes | None" = None,
        headers: "dict[str, str] | None" = None,
        largest: int = _LARGEST_JSON_BYTES,
    ) -> _Answer:
        """One request, GET without a body and POST with one; an answer of at most `largest` bytes.

        Raises:
            CouldNotRun: No server answers, or its answer breaks off or takes too long.
            Refusal: The answer is larger.
        """
        is_used = self._connection.sock is not None
        try:
            return self._ask(path, body, headers or {}, largest)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self.close()
            if not is_used:
                raise self._broken(error) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error
        try:  # the server had closed a connection that was idle: asking again does no harm
            return self._ask(path, body, headers or {}, largest)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from error

    def _ask(self, path: str, body: "bytes | None", headers: "dict[str, str]", largest: int) -> _Answer:
        if self._connection.sock is None:
            self._connect()
        deadline = time.monotonic() + PATIENCE_S
        self._connection.request("GET" if body is None else "POST", self._prefix + path, body, headers)
        with self._connection.getresponse() as response:
            content = bytearray()
            while piece := response.read1(_PIECE_BYTES):
                content += piece
                if len(content) > largest:
                    self.close()
                    raise Refusal(f"{self.url}{path} gives more than {largest} bytes. Is that Triton?")
                if time.monotonic() > deadline:
                    raise OSError(f"it took more than {PATIENCE_S:g} s")
            if response.length:  # of what was announced
                raise OSError(f"{response.length} bytes of the answer are missing")
            header_length = response.getheader(_HEADER_LENGTH)
            return _Answer(self.url, response.status, bytes(content), header_length)

    def _connect(self) -> None:
        try:
            self._connection.connect()
        except OSError as error:
            raise CouldNotRun(
                f"no Triton answers at {self.url} ({_reason(error)}). Run: {self._start}"
            ) from error
        self._connection.sock.settimeout(PATIENCE_S)

    def _broken(self, error: Exception) -> CouldNotRun:
        self.close()
        return CouldNotRun(
            f"{self.url} gave no whole answer ({_reason(error)}). Read the server's log, and try again."
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
