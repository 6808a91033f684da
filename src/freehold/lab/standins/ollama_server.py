#!/usr/bin/python3
"""Stand-in of Ollama (lab): its API over the real llama.cpp, with Python's standard library alone.

The contract it follows is Ollama 0.34's (docs/api.md, docs/openai.md and server/routes.go of ollama/ollama):

    GET  /  /api/version  /api/tags  /api/ps             POST  /api/show  /api/chat  /api/generate  /api/embed
    HEAD and POST  /api/blobs/<digest>                   POST  /api/create (from one GGUF file)  /api/pull  /api/copy
    DELETE  /api/delete                                  GET   /v1/models  /v1/models/<name>
    POST /v1/chat/completions  /v1/completions  /v1/embeddings

Models lie below OLLAMA_MODELS as Ollama lays them out (blobs/, manifests/), a model's digest is the SHA-256 of its
manifest, and each loaded one is a llama-server of its own, unloaded after OLLAMA_KEEP_ALIVE. What differs: it computes
on the CPU whatever there is, and where a GPU's device node is and CUDA_VISIBLE_DEVICES does not hide it, it only claims to
hold the model there (size_vram is size, else 0); it knows no cloud, it pushes nothing, and it pulls over plain HTTP from a
registry on loopback.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

VERSION = "@VERSION@"
LIBRARY = Path(__file__).resolve().parent.parent / "lib" / "ollama"
MODELS = Path(os.environ.get("OLLAMA_MODELS") or Path.home() / ".ollama" / "models")
CONTEXT = int(os.environ.get("OLLAMA_CONTEXT_LENGTH") or 4096)
PARALLEL = int(os.environ.get("OLLAMA_NUM_PARALLEL") or 1)
MAX_LOADED = int(os.environ.get("OLLAMA_MAX_LOADED_MODELS") or 3)
NO_CLOUD = os.environ.get("OLLAMA_NO_CLOUD", "") not in ("", "0", "false")
REGISTRY = "registry.ollama.ai"
MODEL_LAYER = "application/vnd.ollama.image.model"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
FOREVER = 100 * 365 * 86400.0
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")


class RefusedError(Exception):
    """An answer with an error and its status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def seconds(text: Any) -> float:
    """A duration as Ollama writes it: a number of seconds, or Go's form such as ``5m``; negative is for good."""
    if isinstance(text, int | float) or re.fullmatch(r"-?\d+", str(text)):
        return float(text) if float(text) >= 0 else FOREVER
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", str(text))
    total = sum(float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)
    return FOREVER if str(text).startswith("-") else total


KEEP_ALIVE = seconds(os.environ.get("OLLAMA_KEEP_ALIVE") or "5m")


# --- what is stored --------------------------------------------------------------------------------------------------


def blob(digest: str) -> Path:
    """Where the blob of a digest lies."""
    found = _DIGEST.fullmatch(digest)
    if not found:
        raise RefusedError(400, "invalid digest format")
    return MODELS / "blobs" / f"sha256-{found[1]}"


def split(name: str) -> tuple[str, str, str, str]:
    """Registry, namespace, model and tag of a name."""
    parts = name.rsplit("/", 2)
    model, _, tag = parts[-1].partition(":")
    namespace = parts[-2] if len(parts) > 1 else "library"
    registry = parts[0] if len(parts) > 2 else REGISTRY
    good = (re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", part) for part in (namespace, model, tag or "latest"))
    if not all(good) or not re.fullmatch(r"[A-Za-z0-9.-]+(:\d+)?", registry):
        raise RefusedError(400, "invalid model name")
    return registry, namespace, model, tag or "latest"


def display(registry: str, namespace: str, model: str, tag: str) -> str:
    """The name as Ollama lists it."""
    short = (
        f"{model}:{tag}" if namespace == "library" and registry == REGISTRY else f"{namespace}/{model}:{tag}"
    )
    return short if registry == REGISTRY else f"{registry}/{short}"


def manifest_path(name: str) -> Path:
    """Where the manifest of a name lies."""
    if name.endswith((":cloud", "-cloud")):
        raise RefusedError(403 if NO_CLOUD else 404, "ollama cloud is disabled: remote model is unavailable")
    return MODELS.joinpath("manifests", *split(name))


class Model:
    """A model that is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = path.read_bytes()
        self.digest = hashlib.sha256(content).hexdigest()
        self.layers: list[dict[str, Any]] = json.loads(content)["layers"]
        self.size = sum(int(layer["size"]) for layer in self.layers)
        registry, namespace, model, tag = path.relative_to(MODELS / "manifests").parts
        self.name = display(registry, namespace, model, tag)
        self.weights = blob(
            next(layer["digest"] for layer in self.layers if layer["mediaType"] == MODEL_LAYER)
        )
        with self.weights.open("rb") as stream:
            self.metadata = read_metadata(stream)

    @property
    def embeds(self) -> bool:
        return f"{self.metadata.get('general.architecture')}.pooling_type" in self.metadata

    @property
    def details(self) -> dict[str, Any]:
        family = str(self.metadata.get("general.architecture", ""))
        return {
            "parent_model": "",
            "format": "gguf",
            "family": family,
            "families": [family],
            "parameter_size": f"{self.weights.stat().st_size / 4e3:.2f}K",
            "quantization_level": "F32" if self.metadata.get("general.file_type") == 0 else "unknown",
        }

    @property
    def listed(self) -> dict[str, Any]:
        changed = datetime.fromtimestamp(self.path.stat().st_mtime, UTC).isoformat()
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": changed,
            "size": self.size,
            "digest": self.digest,
            "details": self.details,
            "capabilities": ["embedding" if self.embeds else "completion"],
        }


def models() -> list[Model]:
    """All models, newest first."""
    paths = sorted(
        (MODELS / "manifests").glob("*/*/*/*"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    return [Model(path) for path in paths if path.is_file()]


def model(name: str) -> Model:
    """The model of a name."""
    path = manifest_path(name)
    if not path.is_file():
        raise RefusedError(404, f"model '{name}' not found")
    return Model(path)


def read_metadata(stream: BinaryIO) -> dict[str, Any]:
    """The metadata of a GGUF file, without its long lists (ggml/docs/gguf.md)."""
    if stream.read(4) != b"GGUF":
        raise RefusedError(400, "supplied file was not in GGUF format")
    _, _, count = struct.unpack("<IQQ", stream.read(20))
    return {
        _read_string(stream): _read_value(stream, *struct.unpack("<I", stream.read(4))) for _ in range(count)
    }


_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}


def _read_string(stream: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", stream.read(8))
    return stream.read(length).decode("utf-8", "replace")


def _read_value(stream: BinaryIO, kind: int) -> Any:
    if kind == 8:
        return _read_string(stream)
    if kind == 9:
        inner, length = struct.unpack("<IQ", stream.read(12))
        for _ in range(length):
            _read_value(stream, inner)
        return None
    form = _SCALARS[kind]
    return struct.unpack(form, stream.read(struct.calcsize(form)))[0]


def write_blob(content: bytes) -> dict[str, Any]:
    """Store content; the layer's digest and size."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = blob(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(content)
    return {"digest": digest, "size": len(content)}


def receive_blob(digest: str, source: Callable[[int], bytes], length: int) -> None:
    """Store what comes in under its digest, or nothing."""
    path = blob(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}-partial-{threading.get_ident()}")
    found = hashlib.sha256()
    with partial.open("wb") as stream:
        while length and (part := source(min(length, 1 << 20))):
            length -= len(part)
            found.update(part)
            stream.write(part)
    if length or f"sha256-{found.hexdigest()}" != path.name:
        partial.unlink()
        raise RefusedError(400, f"digest mismatch, expected {digest!r}, got 'sha256:{found.hexdigest()}'")
    partial.replace(path)


def create(ask: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A model from one GGUF file that was uploaded as a blob."""
    target = manifest_path(str(ask.get("model") or ask.get("name") or ""))
    files = ask.get("files") or {}
    if len(files) != 1:
        raise RefusedError(400, "neither 'from' or 'files' was specified")
    weights = blob(next(iter(files.values())))
    if not weights.is_file():
        raise RefusedError(400, "blob not found")
    yield {"status": "parsing GGUF"}
    with weights.open("rb") as stream:
        family = read_metadata(stream).get("general.architecture", "")
    config = {"model_format": "gguf", "model_family": family, "architecture": "amd64", "os": "linux"}
    layer = {
        "mediaType": MODEL_LAYER,
        "digest": weights.name.replace("-", ":"),
        "size": weights.stat().st_size,
    }
    kept = write_blob(json.dumps(config, sort_keys=True).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **kept},
        "layers": [layer],
    }
    yield {"status": "writing manifest"}
    RUNNERS.unload(display(*split(str(ask.get("model") or ask.get("name")))))
    put_manifest(target, json.dumps(manifest).encode())
    yield {"status": "success"}


def put_manifest(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(content)
    new.replace(path)


def pull(ask: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A model from a registry: its manifest, then each layer that is not there yet."""
    name = str(ask.get("model") or ask.get("name") or "")
    target = manifest_path(name)
    registry, namespace, short, tag = split(name)
    scheme = "http" if registry.partition(":")[0] in ("127.0.0.1", "localhost") else "https"
    base = f"{scheme}://{registry}/v2/{namespace}/{short}"
    yield {"status": "pulling manifest"}
    try:
        with urllib.request.urlopen(f"{base}/manifests/{tag}", timeout=60) as answer:  # noqa: S310 - always HTTP
            content = answer.read()
        manifest = json.loads(content)
        for layer in [*manifest["layers"], manifest["config"]]:
            digest, size = str(layer["digest"]), int(layer["size"])
            if not blob(digest).is_file():
                with urllib.request.urlopen(f"{base}/blobs/{digest}", timeout=60) as answer:  # noqa: S310
                    receive_blob(digest, answer.read, size)
            yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": size, "completed": size}
    except urllib.error.HTTPError as error:
        reason = "pull model manifest: file does not exist" if error.code == 404 else f"pull model: {error}"
        raise RefusedError(500, reason) from error
    except OSError as error:
        raise RefusedError(500, f"pull model manifest: {error}") from error
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    RUNNERS.unload(display(registry, namespace, short, tag))
    put_manifest(target, content)
    yield {"status": "success"}


def delete(name: str) -> None:
    """Remove a model, and the blobs that no other needs."""
    gone = model(name)
    RUNNERS.unload(gone.name)
    gone.path.unlink()
    kept = {layer["digest"] for other in models() for layer in other.layers}
    for layer in gone.layers:
        if layer["digest"] not in kept:
            blob(layer["digest"]).unlink(missing_ok=True)


# --- what computes ---------------------------------------------------------------------------------------------------


class Runner:
    """A llama-server with one model."""

    def __init__(self, loaded: Model) -> None:
        self.model = loaded
        self.expires = 0.0
        self.busy = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        command = [str(LIBRARY / "ld-linux-x86-64.so.2"), "--library-path", str(LIBRARY)]
        command += [str(LIBRARY / "llama-server"), "--model", str(loaded.weights), "--alias", loaded.name]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--ctx-size", str(CONTEXT * PARALLEL)]
        command += ["--parallel", str(PARALLEL), "--no-webui", "--offline", "--jinja"]
        command += ["--embeddings"] if loaded.embeds else []
        if os.environ.get("OLLAMA_FLASH_ATTENTION"):
            command += ["--flash-attn", "on" if os.environ["OLLAMA_FLASH_ATTENTION"] == "1" else "off"]
        if kind := os.environ.get("OLLAMA_KV_CACHE_TYPE"):
            command += ["--cache-type-k", kind, "--cache-type-v", kind]
        self.process = subprocess.Popen(
            command, cwd=LIBRARY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.wait()

    def wait(self) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.1)
        self.process.kill()
        raise RefusedError(500, "llama runner process has terminated")

    def ask(self, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse()

    @property
    def listed(self) -> dict[str, Any]:
        ends = datetime.now(UTC) + timedelta(seconds=self.expires - time.monotonic())
        shown = {
            key: value
            for key, value in self.model.listed.items()
            if key not in ("modified_at", "capabilities")
        }
        held = self.model.size if claims_gpu() else 0
        return {**shown, "expires_at": ends.isoformat(), "size_vram": held, "context_length": CONTEXT}


def claims_gpu() -> bool:
    """Whether the real one would find a GPU; this one does not use it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "-1" and bool(list(Path("/dev").glob("nvidia[0-9]*")))


class Runners:
    """The models that are loaded."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.loaded: dict[str, Runner] = {}
        threading.Thread(target=self._expire, daemon=True).start()

    def use(self, wanted: Model, keep_alive: Any) -> Runner:
        """The runner of a model, started when it is not there; to be given back with `done`."""
        with self.lock:
            runner = self.loaded.get(wanted.name)
            if runner is None or runner.process.poll() is not None or runner.model.digest != wanted.digest:
                self.unload(wanted.name)
                idle = sorted(
                    (one for one in self.loaded.values() if not one.busy), key=lambda one: one.expires
                )
                for old in idle[: max(0, len(self.loaded) - MAX_LOADED + 1)]:
                    self.unload(old.model.name)
                runner = self.loaded[wanted.name] = Runner(wanted)
            runner.busy += 1
            runner.expires = time.monotonic() + (KEEP_ALIVE if keep_alive is None else seconds(keep_alive))
            return runner

    def done(self, runner: Runner) -> None:
        with self.lock:
            runner.busy -= 1

    def unload(self, name: str) -> None:
        with self.lock:
            if runner := self.loaded.pop(name, None):
                runner.process.terminate()
                runner.process.wait(30)

    def _expire(self) -> None:
        while True:
            time.sleep(1)
            with self.lock:
                for name, runner in list(self.loaded.items()):
                    if not runner.busy and time.monotonic() >= runner.expires:
                        self.unload(name)


RUNNERS = Runners()

_OPTIONS = {
    "num_predict": "max_tokens",
    **{name: name for name in ("temperature", "top_p", "top_k", "seed", "stop")},
}


def options(ask: dict[str, Any]) -> dict[str, Any]:
    """Ollama's options as llama-server names them."""
    return {_OPTIONS[key]: value for key, value in (ask.get("options") or {}).items() if key in _OPTIONS}


def lines(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of a streamed answer."""
    for line in answer:
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            yield json.loads(line[6:])


def generate(ask: dict[str, Any], runner: Runner, *, chat: bool) -> Iterator[dict[str, Any]]:
    """The pieces of an answer, and last what it took."""
    began = time.monotonic_ns()
    if chat:
        messages = ask.get("messages") or []
    else:
        system = [{"role": "system", "content": ask["system"]}] if ask.get("system") else []
        messages = [*system, {"role": "user", "content": ask.get("prompt", "")}] if ask.get("prompt") else []
    head = {"model": ask["model"], "created_at": datetime.now(UTC).isoformat()}

    def piece(text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}} if chat else {"response": text}

    if not messages:
        yield {**head, **piece(""), "done": True, "done_reason": "load"}
        return
    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}, **options(ask)}
    reason, usage = "stop", {"prompt_tokens": 0, "completion_tokens": 0}
    answer = runner.ask("/v1/chat/completions", body)
    if answer.status != 200:
        raise RefusedError(500, answer.read(2000).decode("utf-8", "replace"))
    for event in lines(answer):
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            reason = choice.get("finish_reason") or reason
            if text := choice["delta"].get("content"):
                yield {**head, **piece(text), "done": False}
    took = time.monotonic_ns() - began
    counts = {"prompt_eval_count": usage["prompt_tokens"], "eval_count": usage["completion_tokens"]}
    times = {
        "total_duration": took,
        "load_duration": 0,
        "prompt_eval_duration": took // 10,
        "eval_duration": took,
    }
    yield {**head, **piece(""), "done": True, "done_reason": reason, **times, **counts}


def joined(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The whole answer of a request that asked for no stream."""
    text, last = "", {}
    for last in parts:
        text += last.get("response", "") + last.get("message", {}).get("content", "")
    if "message" in last:
        return {**last, "message": {"role": "assistant", "content": text}}
    return {**last, "response": text} if "response" in last else last


# --- what answers ----------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_version = f"ollama/{VERSION}"

    def log_message(self, _format: str, *args: Any) -> None:
        """A line per request, without query, header or body, as Ollama's own log has it."""
        print(
            f"[{self.command}] {self.path.partition('?')[0]} {args[1] if len(args) > 1 else ''}",
            file=sys.stderr,
        )

    def answer(self, content: Any, status: int = 200, kind: str = "application/json; charset=utf-8") -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def stream(self, parts: Iterable[bytes], kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def body(self) -> dict[str, Any]:
        try:
            found = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        except ValueError as error:
            raise RefusedError(400, f"invalid JSON: {error}") from error
        if not isinstance(found, dict):
            raise RefusedError(400, "a JSON object is wanted")
        return found

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_HEAD(self) -> None:
        self._guarded(self._get)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def do_DELETE(self) -> None:
        self._guarded(self._delete)

    def _guarded(self, handle: Callable[[str], None]) -> None:
        path = self.path.partition("?")[0]
        try:
            handle(path)
        except RefusedError as error:
            openai = {"error": {"message": str(error), "type": "api_error", "param": None, "code": None}}
            self.answer(openai if path.startswith("/v1/") else {"error": str(error)}, error.status)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _get(self, path: str) -> None:
        if path == "/":
            self.answer("Ollama is running", kind="text/plain; charset=utf-8")
        elif path == "/api/version":
            self.answer({"version": VERSION})
        elif path == "/api/tags":
            self.answer({"models": [each.listed for each in models()]})
        elif path == "/api/ps":
            self.answer({"models": [each.listed for each in RUNNERS.loaded.values()]})
        elif path == "/v1/models":
            self.answer({"object": "list", "data": [_openai_model(each) for each in models()]})
        elif path.startswith("/v1/models/"):
            self.answer(_openai_model(model(path.removeprefix("/v1/models/"))))
        elif path.startswith("/api/blobs/"):
            self.answer("", 200 if blob(path.removeprefix("/api/blobs/")).is_file() else 404)
        else:
            self.answer("404 page not found", 404, "text/plain")

    def _post(self, path: str) -> None:
        if path.startswith("/api/blobs/"):
            receive_blob(
                path.removeprefix("/api/blobs/"), self.rfile.read, int(self.headers["Content-Length"])
            )
            self.answer("", 201)
            return
        ask = self.body()
        if path in ("/api/create", "/api/pull"):
            self._events(create(ask) if path == "/api/create" else pull(ask), ask)
        elif path == "/api/show":
            found = model(str(ask.get("model") or ask.get("name") or ""))
            text = (
                f'# Modelfile generated by "ollama show"\nFROM {found.weights}\nTEMPLATE {{{{ .Prompt }}}}\n'
            )
            kinds = found.listed["capabilities"]
            known = {key: value for key, value in found.metadata.items() if value is not None}
            shown = {"modelfile": text, "details": found.details, "model_info": known, "capabilities": kinds}
            self.answer(shown)
        elif path == "/api/copy":
            source, target = model(str(ask.get("source", ""))), manifest_path(str(ask.get("destination", "")))
            put_manifest(target, source.path.read_bytes())
            self.answer("", 200)
        elif path in ("/api/chat", "/api/generate", "/api/embed") or path in _OPENAI:
            self._infer(path, ask)
        else:
            self.answer("404 page not found", 404, "text/plain")

    def _delete(self, path: str) -> None:
        if path != "/api/delete":
            self.answer("404 page not found", 404, "text/plain")
            return
        ask = self.body()
        delete(str(ask.get("model") or ask.get("name") or ""))
        self.answer("", 200)

    def _events(self, parts: Iterator[dict[str, Any]], ask: dict[str, Any]) -> None:
        """Progress: line by line, or its end alone. An error after the first line is a line too."""
        if ask.get("stream", True) is False:
            self.answer(list(parts)[-1])
            return
        self.stream(map(_line, _with_error(parts)), "application/x-ndjson")

    def _infer(self, path: str, ask: dict[str, Any]) -> None:
        wanted = model(str(ask.get("model", "")))
        embeds = path in ("/api/embed", "/v1/embeddings")
        if embeds != wanted.embeds:
            raise RefusedError(400, f"{wanted.name!r} does not support {'embeddings' if embeds else 'chat'}")
        if ask.get("keep_alive") == 0 and not (ask.get("messages") or ask.get("prompt") or ask.get("input")):
            RUNNERS.unload(wanted.name)
            self.answer({"model": wanted.name, "done": True, "done_reason": "unload"})
            return
        runner = RUNNERS.use(wanted, ask.get("keep_alive"))
        try:
            if path in _OPENAI:
                self._pass_on(runner.ask(path, {**ask, "model": wanted.name}))
            elif embeds:
                self.answer(_embedded(runner, ask))
            else:
                parts = generate(ask, runner, chat=path == "/api/chat")
                if ask.get("stream", True) is False:
                    self.answer(joined(parts))
                else:
                    self.stream(map(_line, _with_error(parts)), "application/x-ndjson")
        finally:
            RUNNERS.done(runner)

    def _pass_on(self, answer: http.client.HTTPResponse) -> None:
        kind = answer.headers.get("Content-Type", "application/json")
        if kind.startswith("text/event-stream"):
            self.stream(iter(answer.readline, b""), kind)
        else:
            self.answer(answer.read().decode(), answer.status, kind)


_OPENAI = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


def _line(part: dict[str, Any]) -> bytes:
    return json.dumps(part).encode() + b"\n"


def _with_error(parts: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        yield from parts
    except RefusedError as error:
        yield {"error": str(error)}


def _embedded(runner: Runner, ask: dict[str, Any]) -> dict[str, Any]:
    answer = runner.ask("/v1/embeddings", {"input": ask.get("input", "")})
    found = json.loads(answer.read())
    if answer.status != 200:
        raise RefusedError(answer.status, json.dumps(found))
    vectors = [entry["embedding"] for entry in found["data"]]
    return {
        "model": ask["model"],
        "embeddings": vectors,
        "prompt_eval_count": found["usage"]["prompt_tokens"],
    }


def _openai_model(each: Model) -> dict[str, Any]:
    return {
        "id": each.name,
        "object": "model",
        "created": int(each.path.stat().st_mtime),
        "owned_by": "library",
    }


def main() -> None:
    """Serve, or say the version."""
    if sys.argv[1:] in (["--version"], ["-v"]):
        print(f"ollama version is {VERSION}")
        return
    if sys.argv[1:] != ["serve"]:
        sys.exit("Usage: ollama serve | ollama --version")
    host, _, port = (os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434").rpartition("//")[2].partition(":")
    (MODELS / "blobs").mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer((host, int(port or 11434)), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"Listening on {host}:{port or 11434} (version {VERSION})", file=sys.stderr)
    server.serve_forever()
    for name in list(RUNNERS.loaded):
        RUNNERS.unload(name)


if __name__ == "__main__":
    main()
