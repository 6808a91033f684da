"""The GPU truth test against recorded outputs of real machines, and engines that are not where they should be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from freehold import gpu_truth
from freehold.gpu_truth import Card, Expected, NoToolError, Process, Seen, ToolError

DATA = Path(__file__).parent / "data" / "gpu_truth"
FIRST = "GPU-e82ab913-2d6b-1a55-89a8-9ad23a5a09cf"
SECOND = "GPU-4eac38f2-1a70-662a-f6f4-9b62d1778ef4"
THIRD = "GPU-f7c1496c-b7f5-b1d2-78ea-68826f778059"


def data(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def tools(**outputs: str | Exception) -> gpu_truth.Run:
    """Stand-in of the tools of a machine: recorded outputs by a part of the command; what is not named is not there."""

    def run(command: Sequence[str]) -> str:
        for part, output in outputs.items():
            if part in " ".join(command).replace("-", "_"):
                if isinstance(output, Exception):
                    raise output
                return output
        raise NoToolError(f"there is no {command[0]}")

    return run


def proc(folder: Path, **cgroups: str) -> Path:
    """Stand-in of ``/proc`` of a node: ``p2069192="105/ns/system.slice/vllm.service"``, empty for the node's own."""
    for name, path in cgroups.items():
        place = folder / name.removeprefix("p")
        place.mkdir(parents=True)
        text = f"0::/lxc/{path}\n" if path else "0::/system.slice/ssh.service\n"
        (place / "cgroup").write_text(text)
    return folder


VLLM = Expected(
    service="vllm",
    role="vllm",
    vmid=105,
    unit="vllm.service",
    url="http://127.0.0.1:1",
    gpus=("0000:1b:00.0", THIRD),
    minimum=16000,
)
OLLAMA = replace(
    VLLM, service="ollama", role="ollama", vmid=106, unit="ollama.service", every=False, minimum=256
)


# --- what tools print ------------------------------------------------------------------------------------------------


def test_processes_of_nvidia() -> None:
    assert gpu_truth.compute_apps(data("apps-h100x4.csv")) == [
        Process(FIRST, 2069192, 77002),
        Process(FIRST, 2680904, 518),
        Process(THIRD, 2198486, 74278),
        Process("GPU-cfd9ce0a-b7af-895a-f54c-4f175b610977", 2680904, 518),
    ]


def test_memory_that_the_driver_does_not_tell_is_unknown() -> None:
    (process,) = gpu_truth.compute_apps(data("apps-no-permission.csv"))

    assert (process.pid, process.memory) == (4, None)
    assert process.card.startswith("GPU-0e7f33ad")


def test_a_table_without_cards_tells_of_no_card() -> None:
    assert gpu_truth.table(data("apps-not-found.csv")) == [
        {"pid": "312710", "process_name": "[Not Found]", "used_gpu_memory": "[N/A]"}
    ]
    assert gpu_truth.compute_apps(data("apps-not-found.csv")) == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("77002 MiB", 77002),
        ("518", 518),
        ("0 MiB", 0),
        ("[N/A]", None),
        ("[Not Supported]", None),
        ("[Insufficient Permissions]", None),
        ("[GPU requires reset]", None),
        ("", None),
    ],
)
def test_memory(text: str, number: int | None) -> None:
    assert gpu_truth.mebibytes(text) == number


@pytest.mark.parametrize("text", ["", "No devices were found\n", "gpu_uuid, pid, used_gpu_memory [MiB]\n"])
def test_no_process_at_all(text: str) -> None:
    assert gpu_truth.compute_apps(text) == []


def test_cards_of_nvidia_have_addresses_as_the_kernel_writes_them() -> None:
    found = gpu_truth.cards(data("gpus-h100x4.csv"))

    assert [card.pci for card in found] == ["0000:1b:00.0", "0000:43:00.0", "0000:9b:00.0", "0000:c3:00.0"]
    assert found[1] == Card(SECOND, "0000:43:00.0", 5)


def test_containers_of_processes() -> None:
    assert [gpu_truth.container(line) for line in data("cgroup-pve.txt").splitlines()] == [
        (6666, "lightdm.service"),
        (9001, "llama-router.service"),
        (107, "paperless-task-queue.service"),
        (101, "codex-session-viewer.service"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0::/lxc/100/ns/init.scope", (100, "init.scope")),
        ("0::/lxc/105", (105, "")),
        ("0::/lxc/105/ns", (105, "")),
        (
            "0::/lxc/105/ns/system.slice/vllm.service/worker",
            (105, "vllm.service"),
        ),
        # Control groups of the first version, and what systemd calls an instance.
        (
            "12:cpuset:/lxc/105/ns\n1:name=systemd:/lxc/105/ns/system.slice/x@1.service\n0::/",
            (105, ""),
        ),
        ("0::/lxc.monitor/105", None),
        ("0::/system.slice/ssh.service", None),
        ("0::/user.slice/user-0.slice/session-1.scope/lxc", None),
        ("0::/qemu.slice/105.scope", None),
        ("", None),
    ],
)
def test_container(text: str, found: tuple[int, str] | None) -> None:
    assert gpu_truth.container(text) == found


def test_processes_of_amd_are_found_on_their_cards() -> None:
    bus = data("showbus-mi250x.txt")
    text = data("showpids-mi300x.txt")
    gpus = "PID 1168514 is using 1 DRM device(s):\n5 \nPID 3714485 is using 0 DRM device(s)\n"

    assert gpu_truth.rocm_processes(text, gpus, bus) == [
        Process("0000:d6:00.0", 1168514, 177386942464 // 2**20)
    ]


def test_memory_of_amd_over_two_cards_is_not_guessed() -> None:
    found = gpu_truth.rocm_processes(
        data("showpids-mi50x2.txt"), "PID 132174 is using 2 DRM device(s):\n0 1\n", data("showbus-mi250x.txt")
    )

    assert found == [Process("0000:c1:00.0", 132174, None), Process("0000:c6:00.0", 132174, None)]


def test_memory_that_amd_does_not_tell_is_unknown() -> None:
    gpus = "PID 55573 is using 1 DRM device(s):\n0\n"

    (process,) = gpu_truth.rocm_processes(data("showpids-unknown.txt"), gpus, data("showbus-mi250x.txt"))
    assert process.memory is None


def test_which_cards_amd_processes_are_on() -> None:
    found = gpu_truth.rocm_processes("", data("showpidgpus.txt"), data("showbus-mi250x.txt"))

    assert [(process.pid, process.card) for process in found] == [
        (79301, "0000:c6:00.0"),
        (1949829, "0000:c1:00.0"),
        (1949829, "0000:c6:00.0"),
        (10678, "0000:c1:00.0"),
    ]


# --- the node's account ----------------------------------------------------------------------------------------------


def node(folder: Path, apps: str = "apps-h100x4.csv", **cgroups: str) -> Seen:
    return gpu_truth.look(
        tools(query_compute_apps=data(apps), query_gpu=data("gpus-h100x4.csv")), proc(folder, **cgroups)
    )


def test_an_engine_on_both_of_its_cards_is_where_it_should_be(tmp_path: Path) -> None:
    seen = node(
        tmp_path,
        p2069192="105/ns/system.slice/vllm.service",
        p2198486="105/ns/system.slice/vllm.service",
        p2680904="",
    )

    assert {process.vmid for process in seen.processes if process.card == THIRD} == {105}
    assert {process.unit for process in seen.processes if process.vmid} == {"vllm.service"}
    assert gpu_truth.judge(VLLM, seen) == []


def test_an_engine_without_a_process_computes_on_the_cpu(tmp_path: Path) -> None:
    problems = gpu_truth.judge(VLLM, node(tmp_path, p2069192="107/ns/system.slice/other.service"))

    assert len(problems) == 2
    assert "no process of vllm (container 105) computes on" in problems[0]
    assert "computes on the CPU" in problems[0]


def test_an_engine_on_one_card_of_two_is_not_where_it_should_be(tmp_path: Path) -> None:
    (problem,) = gpu_truth.judge(VLLM, node(tmp_path, p2069192="105/ns/system.slice/vllm.service"))

    assert THIRD in problem


def test_a_process_with_hardly_any_memory_is_no_language_model(tmp_path: Path) -> None:
    seen = node(
        tmp_path,
        "apps-h100x4-later.csv",
        p2069192="105/ns/system.slice/vllm.service",
        p4059665="105/ns/system.slice/vllm.service",
    )

    (problem,) = gpu_truth.judge(VLLM, seen)
    assert "590 MiB" in problem
    assert "16000 MiB" in problem


def test_an_engine_on_a_card_that_it_was_not_given(tmp_path: Path) -> None:
    seen = node(tmp_path, p2069192="105/ns", p2198486="105/ns", p2680904="105/ns")

    (problem,) = gpu_truth.judge(VLLM, seen)
    assert "GPU-cfd9ce0a" in problem
    assert "not given" in problem


def test_a_card_that_is_not_there(tmp_path: Path) -> None:
    seen = node(tmp_path, p2069192="105/ns")

    assert gpu_truth.judge(replace(VLLM, gpus=(FIRST, "0000:81:00.0")), seen) == [
        "the node has no GPU 0000:81:00.0, which vllm was given"
    ]


def test_memory_that_the_driver_does_not_tell_is_taken_from_the_card_only_where_nobody_else_is() -> None:
    card = Card(FIRST, "0000:1b:00.0", 20000)
    expected = replace(VLLM, gpus=(FIRST,))
    own = Process(FIRST, 1, None, 105)

    assert gpu_truth.judge(expected, Seen((card,), (own,))) == []
    (problem,) = gpu_truth.judge(expected, Seen((card,), (own, Process(FIRST, 2, 500, 106))))
    assert "does not say how much memory" in problem
    (problem,) = gpu_truth.judge(expected, Seen((replace(card, used=900),), (own,)))
    assert "900 MiB" in problem


@pytest.mark.parametrize(
    "said",
    [
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.",
        "Failed to initialize NVML: Driver/library version mismatch",
    ],
)
def test_a_driver_that_does_not_answer_is_a_failure(tmp_path: Path, said: str) -> None:
    seen = gpu_truth.look(tools(nvidia_smi=ToolError(f"nvidia-smi failed: {said}")), tmp_path)

    (problem,) = gpu_truth.judge(VLLM, seen)
    assert said in problem


def test_a_driver_that_lists_cards_and_no_processes_is_a_failure(tmp_path: Path) -> None:
    broken = tools(query_gpu=data("gpus-h100x4.csv"), query_compute_apps=ToolError("nvidia-smi hangs"))

    assert gpu_truth.look(broken, tmp_path).error == "nvidia-smi hangs"
    assert "there is no nvidia-smi" in gpu_truth.look(tools(), tmp_path).error
    empty = tools(query_gpu="No devices were found\n", query_compute_apps="No devices were found\n")
    assert gpu_truth.look(empty, tmp_path).error


def test_ollama_may_leave_a_card_empty_but_not_all() -> None:
    found = (Card(FIRST, "0000:1b:00.0", 9000), Card(THIRD, "0000:9b:00.0", 5))

    assert gpu_truth.judge(OLLAMA, Seen(found, (Process(FIRST, 1, 8000, 106),))) == []
    (problem,) = gpu_truth.judge(OLLAMA, Seen(found, ()))
    assert "on any of its cards" in problem


def test_an_engine_that_may_compute_on_the_cpu_is_not_judged_by_cards() -> None:
    on_cpu = replace(VLLM, gpus=())

    assert gpu_truth.judge(on_cpu, Seen(error="there is no nvidia-smi")) == []
    assert gpu_truth.judge_cards(on_cpu, {"cards": [], "cards_error": "there is none"}) == []


# --- the engine's account --------------------------------------------------------------------------------------------


def told(**changes: Any) -> dict[str, Any]:
    state = {
        "ActiveState": "active",
        "NRestarts": "0",
        "InvocationID": "a",
        "ActiveEnterTimestampMonotonic": "1",
    }
    found: dict[str, Any] = {"error": "", "asked": ["m"], "models": [], "cards": [], "cards_error": ""}
    return found | {"before": state, "after": state} | changes


def test_a_language_model_that_is_whole_in_vram() -> None:
    model = {"name": "qwen3:8b", "size": 6 * 2**30, "size_vram": 6 * 2**30}

    assert gpu_truth.judge_engine(OLLAMA, told(models=[model])) == []


@pytest.mark.parametrize(("held", "said"), [(0, "0.0 of 6.0 GiB"), (4 * 2**30, "4.0 of 6.0 GiB")])
def test_a_language_model_that_is_partly_or_not_in_vram(held: int, said: str) -> None:
    model = {"name": "qwen3:8b", "size": 6 * 2**30, "size_vram": held}

    (problem,) = gpu_truth.judge_engine(OLLAMA, told(models=[model]))
    assert said in problem
    assert gpu_truth.judge_engine(replace(OLLAMA, gpus=()), told(models=[model])) == []


def test_a_language_model_that_ollama_does_not_list_after_it_answered() -> None:
    model = {"name": "qwen3:8b", "size": 0, "size_vram": 0}

    assert gpu_truth.judge_engine(OLLAMA, told(models=[model]))


@pytest.mark.parametrize(
    "after",
    [
        {
            "ActiveState": "active",
            "NRestarts": "1",
            "InvocationID": "b",
            "ActiveEnterTimestampMonotonic": "9",
        },
        {
            "ActiveState": "active",
            "NRestarts": "0",
            "InvocationID": "b",
            "ActiveEnterTimestampMonotonic": "9",
        },
        {
            "ActiveState": "failed",
            "NRestarts": "0",
            "InvocationID": "a",
            "ActiveEnterTimestampMonotonic": "1",
        },
    ],
)
def test_an_engine_that_was_restarted_or_ended_meanwhile(after: dict[str, str]) -> None:
    (problem,) = gpu_truth.judge_engine(VLLM, told(after=after))

    assert "vllm.service" in problem


def test_an_engine_that_does_not_answer_or_serves_nothing() -> None:
    assert gpu_truth.judge_engine(VLLM, told(error="Connection refused")) == [
        "vllm does not answer: Connection refused"
    ]
    assert gpu_truth.judge_engine(VLLM, told(asked=[])) == ["vllm serves no language model"]


def test_cards_alone_are_evidence_only_where_they_are_not_shared() -> None:
    found = [
        {"uuid": FIRST, "pci": "0000:1b:00.0", "used": 20000},
        {"uuid": THIRD, "pci": "0000:9b:00.0", "used": 20000},
    ]

    assert gpu_truth.judge_cards(VLLM, told(cards=found)) == []
    (problem,) = gpu_truth.judge_cards(replace(VLLM, shared=True), told(cards=found))
    assert "SSH to the node" in problem
    found[1]["used"] = 900
    (problem,) = gpu_truth.judge_cards(VLLM, told(cards=found))
    assert "900 MiB" in problem
    assert gpu_truth.judge_cards(OLLAMA, told(cards=found)) == []
    found[0]["used"] = found[1]["used"] = 5
    (problem,) = gpu_truth.judge_cards(OLLAMA, told(cards=found))
    assert "computes on the CPU" in problem
    assert gpu_truth.judge_cards(VLLM, told(cards_error="there is no nvidia-smi"))
    # Ollama's own word, size_vram, is about its own processes.
    assert gpu_truth.judge_cards(OLLAMA, told(cards_error="there is no nvidia-smi")) == []
    assert gpu_truth.judge_cards(replace(OLLAMA, shared=True), told(cards=found)) == []


class _Engine(BaseHTTPRequestHandler):
    """Stand-in of an engine's API: Ollama's, or an embedding model at an OpenAI-compatible one."""

    asked: list[str]
    held = 2**30
    key = ""

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            return self.answer(401, {})
        model = {"name": "tiny:latest", "size": 2**30, "size_vram": self.held}
        return self.answer(
            200,
            {
                "/api/tags": {"models": [{"name": "tiny:latest"}, {"name": "meaning:latest"}]},
                "/api/ps": {"models": [model, model | {"name": "meaning:latest"}]},
                "/v1/models": {"data": [{"id": "bge-m3"}]},
            }[self.path],
        )

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(f"{self.path} {asked['model']}")
        embeds = asked["model"].startswith(("meaning", "bge"))
        wanted = self.path in {"/api/embed", "/v1/embeddings"} if embeds else self.path == "/api/generate"
        return self.answer(200 if wanted else 400, {})


@pytest.fixture
def engine() -> Any:
    handler = type("Handler", (_Engine,), {"asked": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    handler.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    server.server_close()


UNIT = "ActiveState=active\nNRestarts=0\nActiveEnterTimestampMonotonic=1\nInvocationID=a\n"


def test_every_language_model_of_ollama_is_asked_in_its_own_way(engine: Any) -> None:
    expected = replace(OLLAMA, url=engine.url, models=("tiny", "meaning"))

    found = gpu_truth.ask(expected, asking=tools(systemctl=UNIT, query_gpu=data("gpus-h100x4.csv")))

    assert found["error"] == ""
    assert found["asked"] == ["tiny:latest", "meaning:latest"]
    assert engine.asked == [
        "/api/generate tiny:latest",
        "/api/generate meaning:latest",
        "/api/embed meaning:latest",
    ]
    assert gpu_truth.judge_engine(expected, found) == []
    assert [card["used"] for card in found["cards"]] == [77537, 5, 74289, 567]


def test_ollama_that_fell_back_to_the_cpu_is_found(engine: Any) -> None:
    engine.held = 0

    found = gpu_truth.ask(replace(OLLAMA, url=engine.url), asking=tools(systemctl=UNIT, query_gpu=""))

    assert len(gpu_truth.judge_engine(OLLAMA, found)) == 2


def test_a_timer_asks_only_what_is_loaded(engine: Any) -> None:
    gpu_truth.ask(replace(OLLAMA, url=engine.url), idle=True, asking=tools(systemctl=UNIT))

    assert engine.asked == ["/api/generate tiny:latest"]


def test_the_key_is_read_on_the_host(engine: Any, tmp_path: Path) -> None:
    engine.key = "sk-of-the-engine"
    file = tmp_path / "secrets.env"
    file.write_text("# Managed\nVLLM_API_KEY=sk-of-the-engine\n")
    expected = replace(VLLM, url=engine.url, key_file=str(file), key_name="VLLM_API_KEY")

    found = gpu_truth.ask(expected, asking=tools(systemctl=UNIT))

    assert found["error"] == ""
    assert engine.asked == ["/v1/completions bge-m3", "/v1/embeddings bge-m3"]
    assert "sk-of-the-engine" not in json.dumps(found)


def test_an_engine_that_is_not_there() -> None:
    found = gpu_truth.ask(VLLM, asking=tools(systemctl=UNIT))

    assert "refused" in found["error"]


# --- the timer -------------------------------------------------------------------------------------------------------


def test_figures() -> None:
    text = gpu_truth.figures({"vllm": [], "ollama": ["on the CPU"]}, "node", "acme", 1763760000)

    assert 'freehold_gpu_truth{client="acme",service="vllm",seen_by="node"} 1' in text
    assert 'freehold_gpu_truth{client="acme",service="ollama",seen_by="node"} 0' in text
    stamp = 'freehold_gpu_truth_timestamp_seconds{client="acme",service="ollama",seen_by="node"} 1763760000'
    assert stamp in text


def test_the_node_says_nothing_of_an_ollama_that_holds_nothing(tmp_path: Path) -> None:
    asking = tools(query_compute_apps=data("apps-h100x4.csv"), query_gpu=data("gpus-h100x4.csv"))

    found = gpu_truth.verdicts([VLLM, OLLAMA], "node", asking, proc(tmp_path / "proc", p1=""))
    assert found.keys() == {"vllm"}
    assert found["vllm"]
    broken = gpu_truth.verdicts([VLLM, OLLAMA], "node", tools(nvidia_smi=ToolError("hangs")), tmp_path)
    assert broken.keys() == {"vllm", "ollama"}


def test_a_host_without_the_tools_of_nvidia_has_the_word_of_its_engine(engine: Any) -> None:
    asking = tools(systemctl=UNIT)
    expected = replace(OLLAMA, url=engine.url)

    assert gpu_truth.verdicts([expected], "engine", asking) == {"ollama": []}
    engine.held = 0
    assert gpu_truth.verdicts([expected], "engine", asking)["ollama"]


def test_cards_of_which_no_tool_tells_have_the_word_of_their_engine(engine: Any, tmp_path: Path) -> None:
    expected = replace(OLLAMA, url=engine.url, measured=False)

    assert gpu_truth.verdicts([expected], "engine", tools(systemctl=UNIT)) == {"ollama": []}
    assert gpu_truth.verdicts([expected], "node", tools(), tmp_path) == {}


def test_it_runs_on_its_own_with_the_standard_library(tmp_path: Path, engine: Any) -> None:
    """As on a host: no package of ours, stand-ins of systemctl and nvidia-smi in the path."""
    tools_folder = tmp_path / "bin"
    tools_folder.mkdir()
    for name, text in {
        "systemctl": f"#!/bin/sh\nprintf '%s' '{UNIT}'\n",
        "nvidia-smi": f"#!/bin/sh\ncat {DATA}/gpus-h100x4.csv\n",
    }.items():
        (tools_folder / name).write_text(text)
        (tools_folder / name).chmod(0o755)
    configuration, written = tmp_path / "configuration.json", tmp_path / "figures.prom"
    expected = replace(OLLAMA, url=engine.url)
    configuration.write_text(
        json.dumps({"client": "acme", "seen_by": "engine", "engines": [expected.as_dict()]})
    )
    program = Path(gpu_truth.__file__).read_text(encoding="utf-8")
    command = [sys.executable, "-I", "-S", "-c", program, "watch", str(configuration), str(written)]

    subprocess.run(command, check=True, env={"PATH": f"{tools_folder}:/usr/bin:/bin"}, cwd=tmp_path)

    assert 'service="ollama",seen_by="engine"} 1' in written.read_text()
    assert oct(written.stat().st_mode)[-3:] == "644"
