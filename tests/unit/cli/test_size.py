"""``freehold size``: the table, the picture, what it advises, its exit codes, and a client's own stack."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import Cli

from freehold.catalog import models
from freehold.catalog.models import LanguageModel
from freehold.cli import size as command
from freehold.cli.console import out
from freehold.errors import BadInputError
from freehold.layout.sizing import PerGpu
from freehold.run import size

GB = 10**9
SHAPE = {
    "layers": 32,
    "hidden": 4096,
    "heads": 32,
    "kv_heads": 8,
    "head_size": 128,
    "vocabulary": 128256,
    "context": 131072,
}


def entry(name: str, total: float, forms: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {
        "title": name.title(),
        "family": "test",
        "provider": "test",
        "jurisdiction": "DE",
        "licence": "Apache-2.0",
        "parameters": {"total": total, "active": total},
        "architecture": SHAPE,
        "quantizations": forms,
        "sources": {},
        **other,
    }


def hub(size_bytes: float | None, **other: Any) -> dict[str, Any]:
    return {
        "weights_bytes": size_bytes and int(size_bytes),
        "repository": "acme/weights",
        "engines": ["vllm", "sglang"],
        "source": "test",
        **other,
    }


def tag(size_bytes: float) -> dict[str, Any]:
    return {"weights_bytes": int(size_bytes), "ollama": "acme:1", "engines": ["ollama"], "source": "test"}


ENTRIES = {
    "huge": entry("huge", 400 * GB, {"fp8": hub(400 * GB)}),
    "middle": entry(
        "middle",
        8 * GB,
        {"bf16": hub(16 * GB), "awq": hub(5.5 * GB), "q4_k_m": tag(4.9 * GB)},
    ),
    "small": entry("small", 2 * GB, {"bf16": hub(4 * GB)}),
    "nameless": entry("nameless", 9 * GB, {"bf16": hub(None)}),
    "only-ollama": entry("only-ollama", 3 * GB, {"q4_k_m": tag(2 * GB)}),
}


@pytest.fixture(autouse=True)
def catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of the tests' own: those of the catalogue change."""
    known = {name: LanguageModel.model_validate({"id": name, **each}) for name, each in ENTRIES.items()}
    monkeypatch.setattr(models, "load", lambda directory=None: known)


def test_before_a_purchase(cli: Cli) -> None:
    said = cli("size", "--hardware", "2x RTX 4090", "--users", "4")
    assert said.code == 0
    assert said.err == ""
    assert "2 x NVIDIA GeForce RTX 4090 of 24564 MiB, 4 conversations at once" in said.out
    shown = answers(said.out)
    assert shown["middle"].startswith("fits ")
    assert " ollama," in shown["only-ollama"]
    assert "Do not fit, not even for one: huge." in said.out
    assert "nameless" not in shown
    assert "Nameless: nothing is computed, since the catalogue lacks: size of the weights." in said.out


def answers(out: str) -> dict[str, str]:
    """The second line of each language model, by its id."""
    lines = out.splitlines()
    return {
        line.split()[0]: below.strip()
        for line, below in pairwise(lines)
        if below.startswith("  ") and not line.startswith(" ")
    }


def test_where_nothing_fits_the_engine_that_holds_more_users_is_shown(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = {"bf16": hub(40 * GB), "q4_k_m": tag(10 * GB)}
    large = LanguageModel.model_validate({"id": "large", **entry("large", 20 * GB, forms)})
    monkeypatch.setattr(models, "load", lambda directory=None: {"large": large})
    shown = answers(cli("size", "--hardware", "RTX 4090", "--users", "50").out)
    assert shown["large"].startswith("for fewer")
    assert " ollama," in shown["large"]


def test_what_fits_comes_first_and_the_largest_of_it(cli: Cli) -> None:
    said = cli("size", "--hardware", "RTX 4090", "--users", "2", "--json")
    rows = json.loads(said.out)
    assert [row["model"] for row in rows] == ["middle", "only-ollama", "small", "huge", "nameless"]
    assert [row["fits"] for row in rows] == [True, True, True, False, False]


def test_one_model_in_all_its_forms_with_advice(cli: Cli) -> None:
    said = cli("size", "--hardware", "RTX 4090", "--users", "40", "--model", "middle")
    assert said.code == 3
    assert "Middle (awq, vllm) does not fit:" in said.out
    assert "users at once fit, at 16384 tokens each" in said.out
    assert "sglang" not in said.out
    rows = json.loads(
        cli("size", "--hardware", "RTX 4090", "--users", "40", "--model", "middle", "--json").out
    )
    assert [(row["quantization"], row["engine"]) for row in rows] == [
        ("bf16", "vllm"),
        ("awq", "vllm"),
        ("q4_k_m", "ollama"),
    ]


def test_another_model_is_proposed_where_none_of_its_forms_fits(cli: Cli) -> None:
    said = cli("size", "--hardware", "RTX 4090", "--users", "2", "--model", "huge")
    assert said.code == 3
    assert "- instead of it would fit: middle (bf16), small (bf16)" in said.out


def test_where_vllm_has_no_room_ollama_is_asked(cli: Cli) -> None:
    tight = ("size", "--hardware", "RTX 3060", "--users", "3", "--context", "12288", "--json")
    rows = {row["model"]: row for row in json.loads(cli(*tight).out)}
    assert (rows["middle"]["engine"], rows["middle"]["fits"]) == ("ollama", True)
    assert rows["small"]["engine"] == "vllm"
    rows = {row["model"]: row for row in json.loads(cli(*tight, "--engine", "vllm").out)}
    assert (rows["middle"]["engine"], rows["middle"]["fits"]) == ("vllm", False)


def test_a_kv_cache_is_asked_of_engines_that_have_it(cli: Cli) -> None:
    said = cli("size", "--hardware", "RTX 4090", "--model", "middle", "--kv-cache", "q8_0", "--json")
    assert [row["engine"] for row in json.loads(said.out)] == ["ollama"]
    said = cli("size", "--hardware", "RTX 4090", "--kv-cache", "fp8", "--json")
    assert {row["engine"] for row in json.loads(said.out)} == {"vllm"}


def test_fewer_users_are_named(cli: Cli) -> None:
    said = cli("size", "--hardware", "RTX 4090", "--users", "40", "--model", "middle", "--engine", "vllm")
    assert " for fewer " in said.out


def test_json_holds_every_figure(cli: Cli) -> None:
    said = cli(
        "size", "--hardware", "h200", "--users", "5", "--model", "middle", "--context", "8192", "--json"
    )
    row = json.loads(said.out)[0]
    assert row["users"] == 5
    assert row["context"] == 8192
    assert row["kv_bytes_per_token"] == 131072
    assert (
        sum(row["per_gpu"][key] for key in ("weights", "kv_cache", "activations", "graphs", "reserve"))
        == (row["per_gpu"]["total"])
    )


def test_engine_and_kv_cache_are_heard(cli: Cli) -> None:
    said = cli("size", "--hardware", "rtx-4090", "--engine", "ollama", "--kv-cache", "q8_0", "--json")
    rows = json.loads(said.out)
    assert {row["engine"] for row in rows} == {"ollama"}
    assert {row["kv_cache"] for row in rows} == {"q8_0"}
    assert {row["model"] for row in rows} == {"middle", "only-ollama"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Name a client or GPUs"),
        (("acme", "--hardware", "RTX 4090"), "Name a client or GPUs"),
        (("acme", "--users", "3"), "stands in its stack file"),
        (("--hardware", "RTX 4099"), "Did you mean rtx-4090"),
        (("--hardware", " , "), "No GPU is named"),
        (("--hardware", "0x RTX 4090"), "0 is no number of GPUs"),
        (("--hardware", "200x RTX 4090"), "200 is no number of GPUs"),
        (("--hardware", "RTX 4090", "--model", "midle"), "Did you mean middle"),
        (("--hardware", "RTX 4090", "--model", "small", "--engine", "ollama"), "serves no form of Small"),
        (("--hardware", "RTX 4090", "--kv-cache", "fp4"), "fp4"),
        (("--hardware", "RTX 4090", "--kv-cache", "q8_0", "--engine", "vllm"), "No KV cache of vllm"),
        (("--hardware", "RTX 4090", "--engine", "tgi"), "No engine is called"),
    ],
)
def test_bad_input(cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    said = cli("size", *arguments)
    assert said.code == 2
    assert says in said.panel


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("2x RTX 4090", ["NVIDIA GeForce RTX 4090"] * 2),
        ("rtx-4090", ["NVIDIA GeForce RTX 4090"]),
        ("2 × geforce rtx 3090 24GB", ["NVIDIA GeForce RTX 3090"] * 2),
        ("2 RTX 4090", ["NVIDIA GeForce RTX 4090"] * 2),
        ("RTX 4090 x2", ["NVIDIA GeForce RTX 4090"] * 2),
        ("RTX 3090 Ti", ["NVIDIA GeForce RTX 3090 Ti"]),
        ("RTX 3090, h200 + RTX4090", ["NVIDIA GeForce RTX 3090", "NVIDIA H200", "NVIDIA GeForce RTX 4090"]),
    ],
)
def test_names_of_gpus(text: str, names: list[str]) -> None:
    assert [card.name for card in size.hardware(text)] == names


def test_a_memory_that_the_gpu_does_not_have_is_no_name_of_it() -> None:
    with pytest.raises(BadInputError, match="RTX 4090 48GB"):
        size.hardware("RTX 4090 48GB")


def test_of_several_gpus_with_a_name_the_smallest_is_taken() -> None:
    (card,) = size.hardware("A100")
    assert card.memory == 40960
    (card,) = size.hardware("A100 80GB")
    assert card.memory == 81920


def bar(total: int, memory: int = 24000) -> str:
    half = total // 2
    return command.picture(PerGpu(half, half // 2, half // 4, half // 8, half // 8, total, memory)).plain


def test_the_picture_is_as_wide_as_the_gpu() -> None:
    full = bar(24000)
    assert len(full) == command.WIDTH
    assert full.count("█") == command.WIDTH // 2
    assert full.count("▓") == full.count("▒") == command.WIDTH // 4
    assert bar(12000).count("·") == command.WIDTH // 2


def test_what_is_too_much_stands_behind_a_line() -> None:
    over = bar(28000)
    assert over.index("|") == command.WIDTH
    assert command.WIDTH < len(over) <= 1.25 * command.WIDTH + 2
    far = bar(240000)
    assert len(far) <= 1.25 * command.WIDTH + 2
    assert far.index("|") == pytest.approx(len(far) / 10, abs=1)


def test_80_columns_hold_everything(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "_width", 80)
    for asked in (
        ("--users", "2"),
        ("--users", "400", "--model", "middle"),
        ("--users", "2", "--model", "huge"),
    ):
        said = cli("size", "--hardware", "RTX 4090", *asked)
        rows = [line for line in said.out.splitlines() if "█" in line and "weights" not in line]
        assert rows
        assert all(line.endswith("of 24.0 GiB") and len(line) <= 80 for line in rows)


def client(tmp_path: Path, **changes: Any) -> str:
    """The folder of a client with two RTX 4090, one for vLLM and one for Ollama."""
    folder = tmp_path / "inventory" / "acme"
    folder.mkdir(parents=True)
    stack = {
        "client": "acme",
        "domain": "acme.internal",
        "proxmox": {"endpoint": "https://pve:8006"},
        "network": {"subnet": "10.20.0.0/24"},
        "nodes": {
            "pve": {"gpus": [{"pci": "01:00.0", "card": "rtx-4090"}, {"pci": "41:00.0", "card": "rtx-4090"}]}
        },
        "services": {"vllm": None, "ollama": None, "litellm": None},
        "hosts": {"vllm": {"gpus": [0]}, "ollama": {"gpus": [1]}},
        "use": {"users": 2},
        **changes,
    }
    (folder / "stack.yml").write_text(yaml.safe_dump(stack))
    return str(folder)


def test_a_client_whose_models_fit(cli: Cli, tmp_path: Path) -> None:
    folder = client(tmp_path, models={"middle": {"engine": "vllm"}, "only-ollama": None})
    said = cli("size", folder)
    assert said.code == 0, said.err
    assert {name for name, says in answers(said.out).items() if says.startswith("fits ")} == {
        "middle",
        "only-ollama",
    }
    rows = json.loads(cli("size", folder, "--json").out)
    assert {(row["model"], row["service"], row["quantization"]) for row in rows} == {
        ("middle", "vllm", "bf16"),
        ("only-ollama", "ollama", "q4_k_m"),
    }
    assert {row["users"] for row in rows} == {2}


def test_a_client_one_of_whose_models_does_not_fit(cli: Cli, tmp_path: Path) -> None:
    folder = client(tmp_path, models={"middle": {"engine": "vllm", "users": 60}, "only-ollama": None})
    said = cli("size", folder)
    assert said.code == 3
    assert said.err == ""
    assert "does not fit:" in said.out
    assert "users at once fit, at 16384 tokens each" in said.out


def test_a_stack_with_another_fault_says_so(cli: Cli, tmp_path: Path) -> None:
    said = cli("size", client(tmp_path, models={"midle": None}))
    assert said.code == 2
    assert "unknown language model" in said.panel


def test_a_stack_without_language_models(cli: Cli, tmp_path: Path) -> None:
    said = cli("size", client(tmp_path))
    assert said.code == 2
    assert "acme names no language model" in said.panel


def test_what_the_cpu_computes_is_not_sized(cli: Cli, tmp_path: Path) -> None:
    folder = client(
        tmp_path,
        models={"only-ollama": None},
        services={"ollama": {"device": "cpu"}, "litellm": None},
        hosts={},
    )
    said = cli("size", folder)
    assert said.code == 0, said.err
    assert answers(said.out) == {"only-ollama": "on the CPU ollama"}


def test_an_engine_that_is_given_no_gpu_is_not_said_to_compute_on_the_cpu(cli: Cli, tmp_path: Path) -> None:
    folder = client(tmp_path, models={"middle": {"engine": "vllm"}}, hosts={})
    said = cli("size", folder)
    assert said.code == 3
    assert answers(said.out)["middle"].startswith("no GPU")
    assert "hosts.vllm.gpus or gpu_layout gives it one" in " ".join(said.out.split())
    (row,) = json.loads(cli("size", folder, "--json").out)
    assert (row["model"], row["fits"], row["without"]) == ("middle", False, "no GPU")


def test_ollama_holds_all_of_its_models_at_once(cli: Cli, tmp_path: Path) -> None:
    both = {"middle": {"engine": "ollama"}, "only-ollama": None}
    said = cli("size", client(tmp_path, models=both, use={"users": 2}))
    assert said.code == 0, said.err
    assert "ollama holds all of its language models at once:" in said.out
    (line,) = [line for line in said.out.splitlines() if line.startswith("GPU 0")]
    assert "of 24.0 GiB" in line


def test_what_fits_alone_but_not_beside_the_others_does_not_fit(cli: Cli, tmp_path: Path) -> None:
    both = {"middle": {"engine": "ollama", "users": 6}, "only-ollama": {"users": 6}}
    folder = client(tmp_path, models=both)
    said = cli("size", folder)
    assert said.code == 3
    assert "each fits alone, but not all of them at once" in said.out
    rows = json.loads(cli("size", folder, "--json").out)
    assert {row["fits"] for row in rows} == {False}
    assert all(row["total"] > row["memory"] for row in rows[0]["together"])
