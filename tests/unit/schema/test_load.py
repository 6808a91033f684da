"""Stack files: merged, validated, and every error with its file, line, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold.errors import ExitCode
from freehold.schema.load import LoadedStack, clients, load_stack, stack_file
from freehold.schema.problems import StackError

SMALLEST = """\
client: acme
domain: acme.internal
proxmox:
  endpoint: https://pve.acme.internal:8006
  fingerprint: "{fingerprint}"
network:
  subnet: 10.20.0.0/24
services:
  openwebui:
""".format(fingerprint=":".join(["AB"] * 32))


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREEHOLD_INVENTORY", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(inventory: Path, stack: str, defaults: str | None = None, client: str = "acme") -> Path:
    (inventory / client).mkdir(exist_ok=True)
    (inventory / client / "stack.yml").write_text(stack)
    if defaults is not None:
        (inventory / "defaults.yml").write_text(defaults)
    return inventory / client


def load(inventory: Path, stack: str, defaults: str | None = None) -> LoadedStack:
    write(inventory, stack, defaults)
    return load_stack("acme")


def problems(inventory: Path, stack: str, defaults: str | None = None) -> list[str]:
    with pytest.raises(StackError) as caught:
        load(inventory, stack, defaults)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert caught.value.where
    return [str(problem) for problem in caught.value.problems]


def test_smallest_stack_has_good_defaults(inventory: Path) -> None:
    loaded = load(inventory, SMALLEST)
    assert len(SMALLEST.splitlines()) <= 10
    stack = loaded.stack
    assert stack.pool == "freehold-acme"
    assert stack.proxmox.token == "freehold@pve!acme"
    assert stack.vmids.first == 1000
    assert stack.network.firewall is True
    assert loaded.directory == inventory / "acme"


@pytest.mark.parametrize("target", ["acme", "./acme", "./acme/stack.yml"])
def test_client_by_name_and_by_path(inventory: Path, target: str) -> None:
    write(inventory, SMALLEST)
    assert stack_file(target) == inventory / "acme" / "stack.yml"
    assert stack_file(inventory / "acme") == inventory / "acme" / "stack.yml"


def test_inventory_of_the_working_directory(inventory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FREEHOLD_INVENTORY")
    (inventory / "inventory").mkdir()
    write(inventory / "inventory", SMALLEST)
    assert load_stack("acme").stack.client == "acme"
    assert clients() == ["acme"]


def test_unknown_client_names_the_nearest(inventory: Path) -> None:
    write(inventory, SMALLEST)
    with pytest.raises(StackError, match=r'there is no client "acmee".*did you mean "acme"') as caught:
        load_stack("acmee")
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    with pytest.raises(StackError, match=r"no stack file nowhere/x/stack\.yml"):
        load_stack("nowhere/x")


def test_all_problems_at_once_each_with_its_place(inventory: Path) -> None:
    text = """\
client: acme
domain: acme.internal
proxmox:
  endpont: https://pve:8006
network:
  subnet: 10.20.0.5/24
  vlan: 9999
  dns: 1.1.1.1
nodes:
  pve:
    gpus:
      - pci: 01:00.0
        vendor: nvidea
hosts:
  vllm: {memory: many, gpus: [1.5]}
  Bad_Name: {}
users:
  - {name: Ada, mail: nobody}
system:
  upgrades: perhaps
"""
    assert problems(inventory, text) == [
        "acme/stack.yml:3: proxmox.endpoint: is missing (allowed: Address of the API, such as https://pve.acme.internal:8006)",
        'acme/stack.yml:4: proxmox.endpont: unknown key; did you mean "endpoint"? (allowed: ca_file, endpoint, '
        "fingerprint, node, pool, root_password_command, storage, template_storage, timeout, token)",
        'acme/stack.yml:6: network.subnet: must be an IPv4 network, found "10.20.0.5/24"; did you mean "10.20.0.0/24"? '
        "(allowed: Network of the containers, such as 10.20.0.0/24)",
        "acme/stack.yml:7: network.vlan: is too large, found 9999 (allowed: at least 1 and at most 4094)",
        'acme/stack.yml:8: network.dns: must be a list, found "1.1.1.1" (allowed: Name servers; those of the node when left out)',
        'acme/stack.yml:13: nodes.pve.gpus[0].vendor: is not a known value, found "nvidea"; did you mean "nvidia"? '
        "(allowed: nvidia, amd, intel)",
        'acme/stack.yml:15: hosts.vllm.memory: must be a whole number, found "many" (allowed: at least 128)',
        "acme/stack.yml:15: hosts.vllm.gpus[0]: must be text or a whole number or must hold keys and values, found 1.5",
        "acme/stack.yml:16: hosts.Bad_Name: is not a name (allowed: lower-case letters, digits and hyphens, 2 to 32 "
        "characters, a letter first and no hyphen last)",
        'acme/stack.yml:18: users[0].mail: is not of the form that belongs here, found "nobody" '
        "(allowed: Mail address; it is the login)",
        'acme/stack.yml:20: system.upgrades: must be true or false, found "perhaps" '
        "(allowed: Whether security upgrades are installed unattended)",
    ]


SHARE = "(allowed: more than 0 and at most 1)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "hosts: {vllm: {gpus: [{gpu: 0, share: 60}]}}",
            f"hosts.vllm.gpus[0].share: is too large, found 60 {SHARE}",
        ),
        (
            "hosts: {vllm: {gpus: [{gpu: 0, share: 60%}]}}",
            f'gpus[0].share: must be a number, found "60%" {SHARE}',
        ),
        ("hosts: {vllm: {gpus: [{gpu: 0, shar: 0.5}]}}", 'gpus[0].shar: unknown key; did you mean "share"?'),
        (
            "hosts: {vllm: {gpus: [{share: 0.5}]}}",
            "hosts.vllm.gpus[0].gpu: is missing (allowed: The GPU: position",
        ),
        (
            "models: {Qwen/Qwen3-8B: }",
            "models.Qwen/Qwen3-8B: is not an id of a language model (allowed: lower-case",
        ),
        (
            "nodes: {pve: {weights: here}}",
            "nodes.pve.weights: must be an absolute path, such as /var/lib/freehold",
        ),
        (
            "nodes: {pve: {driver: managed}}",
            "nodes.pve: driver: managed needs address and host_key: Freehold",
        ),
        (
            "use: {region: de}",
            'found "de" (allowed: Where the client is: a country by its two capital letters',
        ),
    ],
)
def test_what_is_said_of_gpus_and_language_models(inventory: Path, text: str, expected: str) -> None:
    (found,) = problems(inventory, SMALLEST + text + "\n")
    assert expected in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client: acme\n\tdomain: x\n", "acme/stack.yml:2: is not YAML: a tab stands where spaces"),
        ("client: [a\ndomain: b\n", "acme/stack.yml:2: is not YAML: expected ',' or ']'"),
        ("client: a\nclient: b\n", "acme/stack.yml:2: client: is given twice: the first stands in line 1"),
        ("network:\n  vlan: 1\n  vlan: 2\n", "acme/stack.yml:3: network.vlan: is given twice"),
        ("- client\n", "acme/stack.yml:1: must hold keys and values"),
        ("client: &x [*x]\n", "acme/stack.yml:1: is not YAML: an alias contains itself"),
        ("? [a]\n: b\n", "acme/stack.yml:1: is not YAML: a key must be text"),
        (
            "a: b\nclient: !vault x\n",
            "acme/stack.yml:2: holds a YAML tag such as !vault: secrets belong in secrets.yml",
        ),
        ("a: b\nclient: 'x\x01'\n", "acme/stack.yml:2: is not YAML: special characters are not allowed"),
    ],
)
def test_no_yaml(inventory: Path, text: str, expected: str) -> None:
    assert problems(inventory, text)[0].startswith(expected)


def test_empty_file_says_what_is_missing(inventory: Path) -> None:
    found = problems(inventory, "# nothing yet\n")
    assert [text.split(":")[2].strip() for text in found] == ["client", "domain", "proxmox", "network"]


def test_file_that_is_no_text(inventory: Path) -> None:
    write(inventory, "")
    (inventory / "acme/stack.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(StackError, match="not UTF-8"):
        load_stack("acme")


def test_what_looks_like_a_token_secret_is_not_shown(inventory: Path) -> None:
    secret = "12345678-1234-1234-1234-123456789abc"
    text = SMALLEST.replace("proxmox:\n", f"proxmox:\n  token: freehold@pve!acme={secret}\n")
    assert secret not in problems(inventory, text)[0]


def test_invalid_client_is_one_problem(inventory: Path) -> None:
    assert len(problems(inventory, SMALLEST.replace("client: acme", "client: 9 lives"))) == 1


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("nodes.pve.ssh_user", 'nodes: {pve: {ssh_user: "root\\n  ProxyCommand touch /tmp/x"}}'),
        ("nodes.pve.address", 'nodes: {pve: {address: "-oProxyCommand=x"}}'),
        ("nodes.pve.ssh_key", 'nodes: {pve: {ssh_key: "/k\\n  ProxyCommand x"}}'),
        ("nodes.pve.host_key", 'nodes: {pve: {host_key: "ssh-ed25519 AAAA\\n* ssh-ed25519 BBBB"}}'),
        ("system.timezone", "system: {timezone: ../../../etc/shadow}"),
        ("system.locale", 'system: {locale: "C.UTF-8\\nLD_PRELOAD=x"}'),
        ("system.ssh_keys[0]", 'system: {ssh_keys: ["ssh-ed25519 AAAA\\nssh-ed25519 BBBB"]}'),
        ("sources.mirror", 'sources: {mirror: "http://mirror\\nTrusted: yes"}'),
        ("hosts.caddy.storage", 'hosts: {caddy: {storage: "guests:8,mp=/"}}'),
    ],
)
def test_no_value_breaks_out_of_its_line(inventory: Path, key: str, text: str) -> None:
    (problem,) = problems(inventory, f"{SMALLEST}{text}\n")
    assert f": {key}: " in problem


def test_scalars_are_those_of_yaml_1_2(inventory: Path) -> None:
    text = SMALLEST + (
        "  caddy: {a: 01:00.0, b: no, c: 0640, d: 12:30:45, e: 2026-11-21, f: 17, g: 1.5, h: true, i: null, j: 1e3, k: '17'}\n"
    )
    settings = load(inventory, text).stack.services["caddy"]
    assert settings == {
        "a": "01:00.0",
        "b": "no",
        "c": "0640",
        "d": "12:30:45",
        "e": "2026-11-21",
        "f": 17,
        "g": 1.5,
        "h": True,
        "i": None,
        "j": 1000.0,
        "k": "17",
    }


DEFAULTS = """\
network:
  bridge: vmbr1
  dns: [9.9.9.9, 1.1.1.1]
services:
  caddy: {log_days: 30, email: it@msp.example}
system:
  timezone: Europe/Vienna
"""


def test_defaults_merge_under_the_client(inventory: Path) -> None:
    text = SMALLEST + "  caddy: {log_days: 7}\nsystem: {locale: de_DE.UTF-8}\n"
    text = text.replace("network:\n", "network:\n  dns: [10.20.0.1]\n")
    stack = load(inventory, text, DEFAULTS).stack
    assert stack.network.bridge == "vmbr1"
    assert [str(server) for server in stack.network.dns] == ["10.20.0.1"]
    assert stack.services == {"caddy": {"log_days": 7, "email": "it@msp.example"}, "openwebui": None}
    assert (stack.system.timezone, stack.system.locale) == ("Europe/Vienna", "de_DE.UTF-8")


def test_a_key_without_a_value_keeps_the_mapping_of_the_defaults(inventory: Path) -> None:
    stack = load(inventory, SMALLEST + "  caddy:\n", DEFAULTS).stack
    assert stack.services["caddy"] == {"log_days": 30, "email": "it@msp.example"}


def test_problem_in_the_defaults_names_that_file(inventory: Path) -> None:
    assert problems(inventory, SMALLEST, "\nsystem:\n  timezon: UTC\n") == [
        'defaults.yml:3: system.timezon: unknown key; did you mean "timezone"? (allowed: locale, ssh_keys, timezone, upgrades)'
    ]


def test_origins(inventory: Path) -> None:
    text = SMALLEST.replace("network:\n", "network:\n  dns: [10.20.0.1]\n")
    rows = {row.key: (row.value, row.origin) for row in load(inventory, text, DEFAULTS).rows()}
    assert rows["client"] == ("acme", "acme/stack.yml:1")
    assert rows["network.dns[0]"] == ("10.20.0.1", "acme/stack.yml:7")
    assert rows["network.bridge"] == ("vmbr1", "defaults.yml:2")
    assert rows["services.caddy.email"] == ("it@msp.example", "defaults.yml:5")
    assert rows["services.openwebui"] == (None, "acme/stack.yml:10")
    assert rows["vmids.first"] == (1000, "default")
    assert "network.dns[1]" not in rows


def test_merge_keys_and_aliases(inventory: Path) -> None:
    text = (
        SMALLEST
        + "hosts:\n  caddy: &small {cores: 1, memory: 512}\n  openwebui:\n    <<: *small\n    memory: 1024\n"
    )
    hosts = load(inventory, text).stack.hosts
    assert (hosts["openwebui"].cores, hosts["openwebui"].memory) == (1, 1024)
