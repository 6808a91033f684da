"""Weights as the role fetches them, by the real huggingface_hub of its lock, from a stand-in of the hub on the loopback."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from freehold import render, resources
from freehold.lab import hub_standin
from freehold.lab.standins import site_packages
from freehold.lab.tiny_model import write_tiny_model

pytestmark = pytest.mark.lab

TINY = "acme/tiny"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, hub: hub_standin.Hub, log: list[str]) -> None:
        self.hub, self.log = hub, log
        super().__init__(*args)

    def do_GET(self) -> None:
        self.log.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        if "/store/" in self.path and self.headers.get("Authorization"):
            self.log.append("the token was shown to the store")
        self.hub.answer(self)

    do_HEAD = do_GET  # noqa: N815 - the name is the base class's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing."""


class Place:
    """A hub, and a host's folders."""

    def __init__(self, folder: Path, packages: Path) -> None:
        self.folder = folder
        self.log: list[str] = []
        self.hub = hub_standin.Hub(folder / "hub")
        handler = functools.partial(_Handler, hub=self.hub, log=self.log)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.hub.store = f"http://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.models = folder / "models"
        self.settings = {
            "root": str(self.models),
            "hub": self.address,
            "mirror": "",
            "parallel": 4,
            "reserve_mib": 0,
        }
        for name in ("etc", "state", "run", "models", "credentials"):
            (folder / name).mkdir()
        for name in ("checks.py", "hub.py", "weights.py"):
            (folder / "etc" / name).write_text(render.render(f"weights/{name}.j2", {}), encoding="utf-8")
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(packages),
            "HOME": str(folder),
            "WEIGHTS_SETTINGS": str(folder / "etc"),
            "WEIGHTS_STATE": str(folder / "state"),
            "WEIGHTS_RUN": str(folder / "run"),
            "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        }

    def ask(self, *models: Mapping[str, Any]) -> None:
        (self.folder / "etc/settings.json").write_text(json.dumps(self.settings), encoding="utf-8")
        request = json.dumps({"id": "1", "models": models})
        (self.folder / "run/request.json").write_text(request, encoding="utf-8")

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.folder / "etc/weights.py"), *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def fetch(self, *models: Mapping[str, Any]) -> dict[str, Any]:
        """Fetch; how it ended."""
        self.ask(*models)
        process = self.start("fetch")
        _, errors = process.communicate(timeout=120)
        found: dict[str, Any] = json.loads((self.folder / "run/progress.json").read_text(encoding="utf-8"))
        assert (process.returncode == 0) == (found["state"] == "done"), errors
        return found

    def run(self, *words: str) -> list[dict[str, Any]]:
        output, errors = self.start(*words).communicate(timeout=120)
        assert output, errors
        return [json.loads(line) for line in output.splitlines()]

    def register(self) -> dict[str, Any]:
        found = json.loads((self.models / "register.json").read_text(encoding="utf-8"))
        return {entry["path"]: entry for entry in found["weights"]}

    def refused(self, *models: Mapping[str, Any]) -> str:
        """Fetch what must not be had; why not."""
        found = self.fetch(*models)
        assert found["state"] == "failed"
        assert found["error"]["remedy"]
        assert not list(self.models.glob("[!.]*/*")), "something lies where engines look"
        return str(found["error"]["message"])


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    lock = resources.roles() / "weights/files/requirements.txt"
    site_packages(lock, folder, f"{sys.version_info.major}.{sys.version_info.minor}")
    return folder


@pytest.fixture
def place(tmp_path: Path, packages: Path) -> Iterator[Place]:
    made = Place(tmp_path, packages)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, bytes]:
    write_tiny_model(tmp_path / "tiny")
    return {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}


def model(revision: str | None, *files: Mapping[str, Any], repository: str | None = TINY) -> dict[str, Any]:
    return {
        "id": "tiny",
        "quantization": "bf16",
        "repository": repository,
        "revision": revision,
        "path": f"/models/acme--tiny/{revision or 'unlocked'}",
        "licence": "Apache-2.0",
        "files": list(files),
    }


def safetensors(size: int, numbers: bytes | None = None) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + (numbers or os.urandom(size))


def test_what_is_fetched_is_whole_registered_and_readable(place: Place, tiny: dict[str, bytes]) -> None:
    others = {
        "README.md": b"# Tiny\n",
        ".gitattributes": b"* text\n",
        "original/model.safetensors": safetensors(9),
    }
    others |= {
        "run.py": b"print(1)\n",
        "pytorch_model.bin": pickle.dumps({"a": 1}),
        "onnx/model.onnx": b"\x08\x07",
    }
    revision = hub_standin.publish(place.hub.folder, TINY, tiny | others)
    found = place.fetch(model(revision))

    path = place.models / "acme--tiny" / revision
    assert {file.name: file.read_bytes() for file in path.iterdir()} == tiny | {"README.md": b"# Tiny\n"}
    assert {oct(file.stat().st_mode & 0o777) for file in path.iterdir()} == {"0o644"}
    assert oct(path.stat().st_mode & 0o777) == "0o755"
    entry = place.register()[str(path)]
    assert (entry["repository"], entry["revision"], entry["source"]) == (TINY, revision, place.address)
    assert entry["licence"] == "Apache-2.0"
    assert {file["name"]: file["sha256"] for file in entry["files"]} == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in (tiny | {"README.md": b"# Tiny\n"}).items()
    }
    assert entry["left_out"] == sorted(set(others) - {"README.md"})
    assert set(entry["scanned"]["with"]) == {"modelaudit-picklescan", "safetensors"}
    assert found["results"][0]["fetched"]
    assert not [line for line in place.log if "pytorch_model" in line or "run.py" in line or "onnx" in line]
    assert not list((place.models / ".fetch").iterdir())


def test_what_is_there_is_not_asked_for_again(place: Place, tiny: dict[str, bytes]) -> None:
    revision = hub_standin.publish(place.hub.folder, TINY, tiny)
    place.fetch(model(revision))
    place.log.clear()

    assert place.fetch(model(revision))["results"][0]["fetched"] is False
    assert place.log == []
    (place.models / "acme--tiny" / revision / "config.json").unlink()
    assert place.fetch(model(revision))["results"][0]["fetched"] is True


def test_a_revision_that_is_not_known_is_the_hubs_and_is_told(place: Place, tiny: dict[str, bytes]) -> None:
    revision = hub_standin.publish(place.hub.folder, TINY, tiny)
    found = place.fetch(model(None))

    assert found["results"][0]["revision"] == revision
    assert {file["name"] for file in found["results"][0]["files"]} == set(tiny)
    link = place.models / "acme--tiny/unlocked"
    assert link.is_symlink()
    assert link.resolve() == place.models / "acme--tiny" / revision
    assert place.fetch(model(None))["results"][0]["fetched"] is False


def test_a_fetch_that_is_killed_goes_on_in_the_middle_of_its_file(
    place: Place, tiny: dict[str, bytes]
) -> None:
    big = safetensors(24 << 20)
    revision = hub_standin.publish(place.hub.folder, TINY, tiny | {"model.safetensors": big})
    place.hub.pause = 0.01
    place.ask(model(revision))
    process = place.start("fetch")
    deadline = time.monotonic() + 60
    parts = place.models / ".fetch"
    while not [path for path in parts.rglob("model.safetensors.part") if path.stat().st_size > 4 << 20]:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (place.models / "acme--tiny").exists()
    (part,) = parts.rglob("model.safetensors.part")
    had = part.stat().st_size

    place.hub.pause = 0
    place.log.clear()
    found = place.fetch(model(revision))
    assert found["state"] == "done", found
    (request,) = [line for line in place.log if line.startswith("GET") and "model.safetensors" in line]
    first = int(request.partition("bytes=")[2].rstrip("-"))
    assert had <= first < len(big)
    assert (place.models / "acme--tiny" / revision / "model.safetensors").read_bytes() == big


def test_a_file_with_another_content_than_is_known_is_refused(place: Place, tiny: dict[str, bytes]) -> None:
    revision = hub_standin.publish(place.hub.folder, TINY, tiny)
    wrong = {"name": "model.safetensors", "size": len(tiny["model.safetensors"]), "sha256": "a" * 64}
    assert "The hub has another model.safetensors" in place.refused(model(revision, wrong))

    wrong = {"name": "config.json", "size": len(tiny["config.json"]), "sha256": "a" * 64}
    assert "config.json of acme/tiny is not what it should be" in place.refused(model(revision, wrong))


def test_what_an_earlier_attempt_left_is_checked_against_what_is_known_now(
    place: Place, tiny: dict[str, bytes]
) -> None:
    old = {**tiny, "config.json": tiny["config.json"] + b"\n"}
    before, now = (
        hub_standin.publish(place.hub.folder, name, each) for name, each in (("a/a", old), ("b/b", tiny))
    )

    def files(repository: str, commit: str, held: Mapping[str, bytes], *absent: str) -> list[dict[str, Any]]:
        base = f"{place.address}/{repository}/resolve/{commit}"
        return [
            {
                "name": name,
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "url": f"{base}/{'absent/' if name in absent else ''}{name}",
            }
            for name, content in held.items()
        ]

    place.refused(model(None, *files("a/a", before, old, "model.safetensors"), repository=None))
    assert list(place.models.glob(".fetch/*/config.json")), "nothing was left of the first attempt"

    (result,) = place.fetch(model(None, *files("b/b", now, tiny), repository=None))["results"]
    assert Path(result["path"], "config.json").read_bytes() == tiny["config.json"]


def test_a_commit_of_the_hub_is_one_because_it_names_a_directory(
    place: Place, tiny: dict[str, bytes]
) -> None:
    commit = hub_standin.publish(place.hub.folder, TINY, tiny)
    (place.hub.folder / TINY / commit).rename(place.hub.folder / TINY / "..other")

    assert "gives '..other' as the commit of acme/tiny" in place.refused(model(None))


def test_a_token_is_not_sent_in_the_clear(place: Place) -> None:
    (place.folder / "credentials/token").write_text(hub_standin.TOKEN, encoding="utf-8")
    place.settings["hub"] = "http://hub.acme.invalid"

    assert "would go to http://hub.acme.invalid in the clear" in place.refused(model("a" * 40))


def test_a_file_that_changes_on_its_way_is_refused(place: Place, tiny: dict[str, bytes]) -> None:
    revision = hub_standin.publish(place.hub.folder, TINY, tiny)
    information = place.hub.folder / TINY / revision / "config.json"
    hub_standin._known(information, information.stat().st_mtime_ns)  # the hub goes on naming the old content
    before = information.stat()
    information.write_bytes(tiny["config.json"].replace(b"llama", b"mamba"))
    os.utime(information, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert "and not git's" in place.refused(model(revision))


class Evil:
    """What a pickle can do."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch /tmp/freehold-was-here",)


def test_pickles_are_refused_whatever_they_are_called(place: Place, tiny: dict[str, bytes]) -> None:
    evil = pickle.dumps(Evil())
    config = {name: content for name, content in tiny.items() if name != "model.safetensors"}
    hub_standin.publish(place.hub.folder, TINY, config | {"pytorch_model.bin": evil})
    assert "no weights as safetensors; pytorch_model.bin is a pickle" in place.refused(model(None))

    for name in ("model.safetensors", "tokenizer.model", "vocab.txt", "merges.json"):
        hub_standin.publish(place.hub.folder, TINY, tiny | {name: evil})
        assert f"{name} of acme/tiny is" in place.refused(model(None)), name
    named = {"name": "pytorch_model.bin", "size": len(evil), "sha256": hashlib.sha256(evil).hexdigest()}
    assert "pytorch_model.bin of acme/tiny is refused: it is a pickle" in place.refused(model(None, named))
    assert not Path("/tmp/freehold-was-here").exists()


def test_numbers_that_look_like_a_pickle_are_numbers(place: Place, tiny: dict[str, bytes]) -> None:
    """Nothing reads what safetensors hold as anything else, and among gigabytes of numbers everything comes up."""
    numbers = b"\x80\x04\x84\x01\x02\x03\x04cos\nsystem\n(S'true'\ntR." * 64
    tensors = safetensors(len(numbers), numbers)
    hub_standin.publish(place.hub.folder, TINY, tiny | {"model.safetensors": tensors})
    assert place.fetch(model(None))["state"] == "done"


def test_weights_that_are_not_whole_are_refused(place: Place, tiny: dict[str, bytes]) -> None:
    hub_standin.publish(place.hub.folder, TINY, tiny | {"model.safetensors": tiny["model.safetensors"][:-7]})
    assert "is no whole safetensors file" in place.refused(model(None))

    index = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode()
    hub_standin.publish(place.hub.folder, TINY, tiny | {"model.safetensors.index.json": index})
    assert "lacks model-00001-of-00002.safetensors" in place.refused(model(None))


def test_programs_that_weights_ask_for_are_named(place: Place, tiny: dict[str, bytes]) -> None:
    config = json.loads(tiny["config.json"]) | {"auto_map": {"AutoModel": "modeling_tiny.Tiny"}}
    files = tiny | {"config.json": json.dumps(config).encode(), "modeling_tiny.py": b"import os\n"}
    hub_standin.publish(place.hub.folder, TINY, files)
    (result,) = place.fetch(model(None))["results"]

    assert result["asks_for_code"] == ["config.json: AutoModel = modeling_tiny.Tiny"]
    assert result["left_out"] == ["modeling_tiny.py"]


def test_what_does_not_fit_the_disk_is_not_begun(place: Place, tiny: dict[str, bytes]) -> None:
    hub_standin.publish(place.hub.folder, TINY, tiny)
    place.settings["reserve_mib"] = 1 << 40
    message = place.refused(model(None))

    assert "GiB more, and 0.0 GiB are free" in message
    assert not [line for line in place.log if "/resolve/" in line or "/store/" in line]


def test_what_a_licence_guards_needs_a_token(place: Place, tiny: dict[str, bytes]) -> None:
    hub_standin.publish(place.hub.folder, TINY, tiny, gated=True)
    assert "to accounts alone that have accepted its licence" in place.refused(model(None))

    (place.folder / "credentials/token").write_text(f"# of the lab\n{hub_standin.TOKEN}\n", encoding="utf-8")
    assert place.fetch(model(None))["state"] == "done"
    assert [line for line in place.log if "/store/" in line]
    assert "the token was shown to the store" not in place.log
    assert hub_standin.TOKEN not in (place.models / "register.json").read_text(encoding="utf-8")


def test_what_the_hub_does_not_have_is_said(place: Place, tiny: dict[str, bytes]) -> None:
    assert "has no acme/tiny" in place.refused(model(None))
    hub_standin.publish(place.hub.folder, TINY, tiny)
    assert "has no such revision" in place.refused(model("b" * 40))
    place.settings["hub"] = "http://127.0.0.1:9"
    assert "http://127.0.0.1:9 is not reached" in place.refused(model(None))


def test_a_mirror_gives_files_by_their_checksums(place: Place, tiny: dict[str, bytes]) -> None:
    files = [
        {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in tiny.items()
    ]
    # The folder of the hub serves as the mirror: /store/files/... would be of no repository.
    mirror = place.folder / "mirror"
    for file in files:
        (mirror / "files" / str(file["sha256"])).mkdir(parents=True)
        (mirror / "files" / str(file["sha256"]) / str(file["name"])).write_bytes(tiny[str(file["name"])])
    from freehold.mirror.serve import server

    (mirror / "freehold.json").write_text("{}", encoding="utf-8")
    running = server(mirror, "127.0.0.1", 0)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    place.settings["mirror"] = f"http://127.0.0.1:{running.server_address[1]}/"
    assert "not all of acme/tiny are known" in place.refused(model("b" * 40, *files[:2]))
    assert place.fetch(model("b" * 40, *files))["state"] == "done"
    running.shutdown()
    assert (place.models / "acme--tiny" / ("b" * 40) / "config.json").read_bytes() == tiny["config.json"]
    assert place.log == []


def test_damage_is_found_and_weights_go_with_their_entry(place: Place, tiny: dict[str, bytes]) -> None:
    revision = hub_standin.publish(place.hub.folder, TINY, tiny)
    place.fetch(model(revision))
    path = place.models / "acme--tiny" / revision
    assert place.run("verify")[-1]["damaged"] == []

    changed = bytearray(tiny["model.safetensors"])
    changed[-1] ^= 1
    (path / "model.safetensors").write_bytes(changed)
    (path / "config.json").unlink()
    assert place.run("verify")[-1]["damaged"] == [
        {"path": str(path), "file": "config.json", "what": "is not there"},
        {"path": str(path), "file": "model.safetensors", "what": "has another content"},
    ]
    assert place.run("state")[-1]["weights"][0]["lacking"] == ["config.json", "model.safetensors"]
    place.log.clear()
    place.fetch(model(revision))
    assert {
        line.rpartition("/")[2] for line in place.log if line.startswith("GET") and "/api/" not in line
    } == {
        "config.json",
        "model.safetensors",
    }
    assert place.run("verify")[-1]["damaged"] == []
    assert place.run("remove", str(path))[-1]["removed"] == [
        {"path": str(path), "size": sum(map(len, tiny.values()))}
    ]
    assert place.register() == {}
    assert not path.parent.exists()
