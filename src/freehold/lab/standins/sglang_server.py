"""Stand-in of SGLang (lab): its command line and its API; whatever it is asked, it answers one sentence.

The contract it follows is that of SGLang 0.5.23 (sglang/srt/arg_groups/fields, entrypoints/http_server.py, utils/auth.py):

    python -m sglang.launch_server --config FILE.yaml, and the options of OPTIONS below; another one ends it, as there
    GET  /health /health_generate /ready /metrics               without a key; /metrics where it is switched on
    GET  /v1/models /model_info /server_info                    POST  /v1/chat/completions /v1/completions (also streamed)
    POST /v1/embeddings where --is-embedding, else 400          POST  /generate /tokenize
    GET and POST  whatever changes it (CHANGES below): 200, so that a proof which is refused was refused by the proxy

It wants what the real one wants: a directory with config.json, a tokenizer and weights as safetensors, and as many GPUs as
--tensor-parallel-size says, whose device nodes it must be able to open. It computes nothing on them. Like the real one, it
writes its options into its log.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

VERSION = "@VERSION@"
ANSWER = "@ANSWER@"

OPTIONS: dict[str, dict[str, Any]] = {
    "--model-path": {"required": True},
    "--load-format": {"choices": ["auto", "safetensors", "pt", "dummy", "gguf"], "default": "auto"},
    "--revision": {},
    "--served-model-name": {},
    "--host": {"default": "127.0.0.1"},
    "--port": {"type": int, "default": 30000},
    "--context-length": {"type": int},
    "--tensor-parallel-size": {"type": int, "default": 1},
    "--mem-fraction-static": {"type": float},
    "--max-running-requests": {"type": int},
    "--kv-cache-dtype": {"choices": ["auto", "fp8_e5m2", "fp8_e4m3", "bf16", "bfloat16"], "default": "auto"},
    "--tool-call-parser": {},
    "--reasoning-parser": {},
    "--api-key": {},
    "--admin-api-key": {},
    "--allowed-media-domains": {"nargs": "+"},
    "--chunked-prefill-size": {"type": int},
}
SWITCHES = (
    "--enable-metrics",
    "--is-embedding",
    "--trust-remote-code",
    "--disable-custom-all-reduce",
    "--log-requests",
)

CHANGES = (
    *(
        "/flush_cache",
        "/abort_request",
        "/pause_generation",
        "/continue_generation",
        "/slow_down",
        "/freeze_gc",
    ),
    *("/start_profile", "/stop_profile", "/set_internal_state", "/configure_logging", "/set_trace_level"),
    *("/update_weights_from_disk", "/update_weights_from_tensor", "/update_weights_from_distributed"),
    *("/init_weights_update_group", "/get_weights_by_name", "/update_weight_version", "/weights_checker"),
    *(
        "/release_memory_occupation",
        "/resume_memory_occupation",
        "/load_lora_adapter",
        "/unload_lora_adapter",
    ),
    *(
        "/open_session",
        "/close_session",
        "/hicache/storage-backend/clear",
        "/dump_expert_distribution_record",
    ),
)


def options(arguments: list[str]) -> argparse.Namespace:
    """The options: those of the file of --config come first, so that the command line wins."""
    parser = argparse.ArgumentParser(prog="sglang.launch_server", allow_abbrev=False)
    for name, about in OPTIONS.items():
        parser.add_argument(name, **about)
    for name in SWITCHES:
        parser.add_argument(name, action="store_true")
    if "--config" in arguments:
        at = arguments.index("--config")
        before: list[str] = []
        for name, value in yaml.safe_load(Path(arguments[at + 1]).read_text(encoding="utf-8")).items():
            if isinstance(value, list):
                sys.exit(f"Unsupported config option '{name}'")
            if value is not False:
                before += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        arguments = [*before, *arguments[:at], *arguments[at + 2 :]]
    return parser.parse_args(arguments)


def check(given: argparse.Namespace) -> None:
    """End unless there are weights and GPUs."""
    folder = Path(given.model_path)
    if not (folder / "config.json").is_file() or not (folder / "tokenizer.json").is_file():
        sys.exit(f"{folder} holds no language model")
    json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        sys.exit(f"Cannot find any model weights with `{folder}`")
    for path in weights:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        if not header:
            sys.exit(f"{path} holds no weights")
    gpus = [path for path in sorted(Path("/dev").glob("nvidia[0-9]*")) if os.access(path, os.R_OK | os.W_OK)]
    if len(gpus) < given.tensor_parallel_size:
        sys.exit(
            f"RuntimeError: {len(gpus)} CUDA GPUs are available, and {given.tensor_parallel_size} are wanted"
        )


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    given: argparse.Namespace
    tokens = 0

    def log_message(self, *_: Any) -> None:
        """The real one writes paths of requests and no bodies."""
        print(f"INFO: {self.command} {self.path.partition('?')[0]}", flush=True)

    def answer(self, content: Any, status: int = 200, kind: str = "application/json") -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def allowed(self) -> bool:
        """Whether the key is right; health and metrics want none."""
        if not self.given.api_key or self.path.startswith(("/health", "/ready", "/metrics")):
            return True
        if self.headers.get("Authorization") == f"Bearer {self.given.api_key}":
            return True
        self.answer({"error": "Unauthorized"}, 401)
        return False

    def do_GET(self) -> None:
        """Pages, and what the real one changes even by GET."""
        if not self.allowed():
            return
        name = self.given.served_model_name or self.given.model_path
        match self.path.partition("?")[0]:
            case "/health" | "/health_generate" | "/ready":
                self.answer("", kind="text/plain")
            case "/v1/models":
                card = {"id": name, "object": "model", "owned_by": "sglang", "root": name}
                self.answer({"object": "list", "data": [card | {"max_model_len": self.given.context_length}]})
            case "/model_info" | "/get_model_info":
                self.answer(
                    {"model_path": self.given.model_path, "is_generation": not self.given.is_embedding}
                )
            case "/server_info" | "/get_server_info":
                self.answer({**vars(self.given), "version": VERSION, "launch_command": " ".join(sys.argv)})
            case "/metrics" if self.given.enable_metrics:
                lines = [
                    f'sglang:generation_tokens_total{{model_name="{name}"}} {Handler.tokens}',
                    f'sglang:num_queue_reqs{{model_name="{name}"}} 0',
                    f'sglang:num_running_reqs{{model_name="{name}"}} 0',
                    f'sglang:token_usage{{model_name="{name}"}} 0',
                ]
                self.answer("\n".join(lines) + "\n", kind="text/plain; version=0.0.4")
            case path if path in CHANGES or path == "/":
                self.answer({"success": True})
            case _:
                self.answer({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        """Questions, and what changes the real one."""
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.allowed():
            return
        try:
            asked = json.loads(text) if text.strip() else {}
        except ValueError:
            self.answer({"object": "error", "message": "Invalid JSON", "code": 400}, 400)
            return
        path = self.path.partition("?")[0]
        if path in CHANGES:
            self.answer({"success": True})
        elif path in ("/generate", "/tokenize"):
            self.answer({"text": ANSWER} if path == "/generate" else {"tokens": [0], "count": 1})
        elif path == "/v1/embeddings":
            self.embed(asked)
        elif path in ("/v1/chat/completions", "/v1/completions"):
            self.complete(asked, path == "/v1/chat/completions")
        else:
            self.answer({"detail": "Not Found"}, 404)

    def embed(self, asked: dict[str, Any]) -> None:
        """Numbers that differ between texts."""
        if not self.given.is_embedding:
            self.answer({"object": "error", "message": "This model does not embed", "code": 400}, 400)
            return
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": [len(text) / 100.0, sum(text.encode()) / 1e4],
            }
            for index, text in enumerate(texts)
        ]
        self.answer({"object": "list", "data": data, "model": asked.get("model")})

    def complete(self, asked: dict[str, Any], chat: bool) -> None:
        """The sentence, at once or word by word."""
        name = self.given.served_model_name or self.given.model_path
        if self.given.is_embedding or not (asked.get("messages") if chat else asked.get("prompt")):
            self.answer({"object": "error", "message": "messages or prompt is missing", "code": 400}, 400)
            return
        words = ANSWER.split(" ")[: asked.get("max_tokens") or asked.get("max_completion_tokens") or 128]
        Handler.tokens += len(words)
        common = {"id": f"cmpl-{time.time_ns():x}", "created": int(time.time()), "model": name}
        usage = {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": len(words) + 1}
        if asked.get("stream"):
            self.stream(common, words, chat)
            return
        text = " ".join(words)
        said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        kind = "chat.completion" if chat else "text_completion"
        choice = {"index": 0, "finish_reason": "stop", **said}
        self.answer({**common, "object": kind, "choices": [choice], "usage": usage})

    def stream(self, common: dict[str, Any], words: list[str], chat: bool) -> None:
        """Server-sent events, each a chunk of HTTP."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in (*self.events(common, words, chat), "[DONE]"):
            line = f"data: {event}\n\n".encode()
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def events(self, common: dict[str, Any], words: list[str], chat: bool) -> Iterator[str]:
        kind = "chat.completion.chunk" if chat else "text_completion"
        for position, word in enumerate(words):
            text = word if position == 0 else f" {word}"
            said = {"delta": {"role": "assistant", "content": text}} if chat else {"text": text}
            ends = "stop" if position == len(words) - 1 else None
            yield json.dumps(
                {**common, "object": kind, "choices": [{"index": 0, "finish_reason": ends, **said}]}
            )


def main() -> None:
    """Check what there is, and answer."""
    given = options(sys.argv[1:])
    print(f"server_args={vars(given)}", flush=True)
    check(given)
    Handler.given = given
    server = ThreadingHTTPServer((given.host, given.port), Handler)
    print("The server is fired up and ready to roll!", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
