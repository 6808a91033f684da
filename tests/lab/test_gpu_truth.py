"""The GPU truth test on real containers with stand-ins of GPUs: what claims VRAM passes, what fell back to the CPU fails.

There is no GPU. Ollama's stand-in claims ``size_vram`` where it is given a device node, and the stand-in of ``nvidia-smi`` on
the node lists the processes that a test tells it; those processes are real, and so are their control groups, which are named
as Proxmox VE names those of a container. What is proven is the chain from the proof to the verdict, over SSH, ``/proc`` and
the timers, not CUDA.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .freehold_command import LAB_STACK, Freehold

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CLIENT = "truth"
VMID = 4365  # 4300 and the place of Ollama
OWN, OTHER = (f"GPU-00000000-0000-4000-8000-00000000000{n}" for n in (1, 0))
CLAIMS = "/run/freehold-lab-gpu-processes.d/truth"


def node(command: str) -> str:
    ssh = ["ssh", "-i", "/var/lib/freehold-lab/node_key", "-o", "BatchMode=yes"]
    ssh += ["-o", "UserKnownHostsFile=/var/lib/freehold-lab/known_hosts", "root@10.86.0.2"]
    return subprocess.run([*ssh, command], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", autouse=True)
def stack(freehold: Freehold) -> Iterator[Path]:
    lab = yaml.safe_load(LAB_STACK.read_text(encoding="utf-8"))
    access = {key: lab["nodes"]["pve"][key] for key in ("address", "ssh_key", "known_hosts")}
    gpus = [{"pci": f"0000:0{bus}:00.0", "card": "rtx-4090"} for bus in (1, 2)]
    tiny = {
        "name": "tiny-chat",
        "url": "http://10.86.0.1:8080/models/tiny-gguf/tiny-chat.gguf",
        "sha256": "24368fde6ea405c9f95127fde8309d99456a4bca245ecd0f5d970d8bd931d7ca",
    }
    path = freehold.write(
        CLIENT,
        "10.86.0.10",
        VMID - 65,
        exclusive=False,
        users=[],
        groups=[],
        models={},
        nodes={"pve": {**access, "gpus": gpus, "driver": "administrator"}},
        services={"ollama": {"device": "cuda", "context_length": 2048, "models": [tiny]}, "prometheus": None},
        hosts={
            "ollama": {"gpus": [1], "cores": 2, "memory": 1024, "disk": 8},
            "prometheus": {"memory": 768, "disk": 8, "data": 1},
            "alertmanager": {"memory": 384, "disk": 4},
        },
    )
    freehold("lab", "versions", str(path.parent))
    freehold("prepare", CLIENT)
    freehold("up", CLIENT, "--no-proof")
    try:
        yield path
    finally:
        release()
        freehold("down", CLIENT, "--confirm", CLIENT, code=None)


def release() -> None:
    """Nobody computes on the stand-ins any more."""
    node(
        f"rm -f {CLAIMS}; systemctl stop truth-claim 2>/dev/null; sleep 0.5; for h in unified pids systemd; do"
        f" for d in system.slice/ollama.service system.slice ''; do rmdir /sys/fs/cgroup/$h/lxc/{VMID}/ns/$d; done;"
        f" rmdir /sys/fs/cgroup/$h/lxc/{VMID} /sys/fs/cgroup/$h/lxc; done 2>/dev/null; true"
    )


def claim(card: str, memory: int, vmid: int = VMID) -> None:
    """A process of a container, by its control group, holds MiB of a card, as the stand-in of nvidia-smi lists it."""
    release()
    path = f"lxc/{vmid}/ns/system.slice/ollama.service"
    node(
        "systemd-run --quiet --unit=truth-claim sleep 900; p=$(systemctl show -P MainPID truth-claim);"
        f" for h in unified pids systemd; do mkdir -p /sys/fs/cgroup/$h/{path} &&"
        f" echo $p > /sys/fs/cgroup/$h/{path}/cgroup.procs; done 2>/dev/null;"
        f" grep -q :/{path} /proc/$p/cgroup && mkdir -p $(dirname {CLAIMS}) && echo {card} $p {memory} > {CLAIMS}"
    )


def proof(freehold: Freehold, *, code: int) -> str:
    """What the checks that failed say."""
    lines = freehold("verify", CLIENT, "--only", "ollama", "--json", code=code).stdout.splitlines()
    events = [json.loads(line) for line in lines if line.startswith("{")]
    failed = [each for each in events if each.get("status") == "failed" and each.get("host")]
    return "; ".join(f"{each['step']}: {each['message']}" for each in failed)


def test_an_engine_that_claims_vram_and_holds_none_is_found_by_the_node(freehold: Freehold) -> None:
    release()

    assert f"no process of ollama (container {VMID}) computes on any of its cards" in proof(freehold, code=1)


def test_an_engine_in_the_memory_of_its_own_card_passes(freehold: Freehold) -> None:
    claim(OWN, 3000)

    assert proof(freehold, code=0) == ""


def test_an_engine_on_the_card_of_another_fails(freehold: Freehold) -> None:
    claim(OTHER, 3000)

    assert OTHER in proof(freehold, code=1)


def test_a_process_of_another_container_is_no_evidence(freehold: Freehold) -> None:
    claim(OWN, 3000, vmid=VMID + 1)
    try:
        assert "no process of ollama" in proof(freehold, code=1)
    finally:
        node(
            f"systemctl stop truth-claim; rmdir -p /sys/fs/cgroup/*/lxc/{VMID + 1}/ns/system.slice/ollama.service 2>/dev/null; true"
        )


def figure(freehold: Freehold, seen_by: str) -> str:
    """The verdict that the timer writes, run now."""
    if seen_by == "node":
        unit = f"freehold-gpu-truth-{CLIENT}"
        text = node(f"systemctl start {unit}.service && cat /var/lib/prometheus/node-exporter/{unit}.prom")
    else:
        unit = "freehold-gpu-truth"
        command = f"systemctl start {unit}.service && cat /var/lib/prometheus/node-exporter/{unit}.prom"
        text = freehold.ssh(CLIENT, "ollama", command).stdout
    wanted = f'freehold_gpu_truth{{client="{CLIENT}",service="ollama",seen_by="{seen_by}"}} '
    return next((line.removeprefix(wanted) for line in text.splitlines() if line.startswith(wanted)), "none")


def test_the_timers_run_each_hour(freehold: Freehold) -> None:
    assert "freehold-gpu-truth.timer" in freehold.ssh(CLIENT, "ollama", "systemctl list-timers").stdout
    assert f"freehold-gpu-truth-{CLIENT}.timer" in node("systemctl list-timers")


def test_the_timer_of_the_node_tells_where_the_engine_computes(freehold: Freehold) -> None:
    claim(OWN, 3000)
    assert figure(freehold, "node") == "1"
    claim(OWN, 12)
    assert figure(freehold, "node") == "0"
    claim(OTHER, 3000)
    assert figure(freehold, "node") == "0"
    release()
    # Ollama holds nothing while nobody asks it: that is its own host's matter.
    assert figure(freehold, "node") == "none"


def test_the_timer_of_the_host_finds_a_fallback_to_the_cpu(freehold: Freehold) -> None:
    """The device node goes away, as it does when a driver fails: Ollama goes on, on the CPU."""
    release()
    folder = "/etc/systemd/system/ollama.service.d"
    lost = f"mkdir -p {folder} && printf '[Service]\\nEnvironment=CUDA_VISIBLE_DEVICES=-1\\n' > {folder}/lost.conf"
    # The container of the lab has no nvidia-smi, so that the cards' memory is unknown there; Ollama's word counts.
    assert figure(freehold, "engine") == "1"
    found = freehold.ssh(CLIENT, "ollama", f"{lost} && systemctl daemon-reload && systemctl restart ollama")
    assert found.returncode == 0, found.stderr
    try:
        assert figure(freehold, "engine") == "0"
        journal = freehold.ssh(CLIENT, "ollama", "journalctl -u freehold-gpu-truth -n 5 -o cat").stdout
        assert "in VRAM, so that the rest computes on the CPU" in journal
        assert "so that the rest computes on the CPU" in proof(freehold, code=1)
    finally:
        freehold.ssh(CLIENT, "ollama", f"rm -r {folder}; systemctl daemon-reload; systemctl restart ollama")


def test_prometheus_hears_the_verdict_and_has_the_rule(freehold: Freehold) -> None:
    claim(OTHER, 3000)
    assert figure(freehold, "node") == "0"
    program = (
        "import base64, json, re, time, urllib.parse, urllib.request\n"
        "text = open('/etc/prometheus/prometheus.yml').read()\n"
        'own = re.search(r\'job_name: prometheus:9090/metrics.*?password: "([^"]+)"\', text, re.S).group(1)\n'
        "head = {'Authorization': 'Basic ' + base64.b64encode(('freehold:' + own).encode()).decode()}\n"
        "def ask(path):\n"
        "    address = re.search(r'listen-address=(\\S+)', open('/proc/' + pid + '/cmdline').read().replace(chr(0), ' ')).group(1)\n"
        "    return json.load(urllib.request.urlopen(urllib.request.Request('http://' + address + path, headers=head)))['data']\n"
        "import subprocess\n"
        "pid = subprocess.check_output(['systemctl', 'show', '-P', 'MainPID', 'prometheus'], text=True).strip()\n"
        'query = urllib.parse.quote(\'freehold_gpu_truth{service="ollama",seen_by="node"} == 0\')\n'
        "for _ in range(60):\n"
        "    found = ask('/api/v1/query?query=' + query)['result']\n"
        "    if found: break\n"
        "    time.sleep(3)\n"
        "rules = [rule['name'] for group in ask('/api/v1/rules')['groups'] for rule in group['rules']]\n"
        "print(len(found), 'OllamaNotOnGpu' in rules, 'GpuTruthUnknown' in rules)\n"
    )
    quoted = program.replace("'", "'\\''")
    found = freehold.ssh(CLIENT, "prometheus", f"timeout 50 python3 -c '{quoted}'")

    assert found.stdout.split() == ["1", "True", "True"], found.stderr
