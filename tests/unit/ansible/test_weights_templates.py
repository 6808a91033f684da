"""What the files of the weights hold; what the programs do is tested by ``tests/lab/test_weights.py``."""

from __future__ import annotations

import json
from typing import Any

import yaml

from freehold import render, resources

PATH = "/models/acme--own/unlocked"


def rendered(template: str, **others: Any) -> str:
    defaults = yaml.safe_load((resources.roles() / "weights/defaults/main.yml").read_text(encoding="utf-8"))
    given = {**defaults, **{f"weights_{name}": value for name, value in others.items()}}
    return render.render(f"weights/{template}.j2", given)


def test_a_repository_alone_is_enough() -> None:
    text = rendered("models.json", models=[{"id": "own", "repository": "acme/own", "path": PATH}])

    assert json.loads(text)["models"] == [
        {
            "id": "own",
            "quantization": "",
            "repository": "acme/own",
            "revision": None,
            "path": PATH,
            "licence": None,
            "files": [],
        }
    ]


def test_what_is_known_of_files_is_handed_on() -> None:
    files = [
        {"name": "config.json", "size": 12, "sha256": "1" * 64, "url": None},
        {"name": "model.safetensors"},
    ]
    own = {"id": "own", "quantization": "bf16", "revision": "a" * 40, "path": PATH, "files": files}
    first, second = json.loads(rendered("models.json", models=[own, {**own, "id": "two"}]))["models"]

    assert first["files"] == files
    assert (second["id"], second["quantization"], second["repository"]) == ("two", "bf16", None)
    assert json.loads(rendered("models.json", models=[]))["models"] == []


def test_settings_are_those_of_the_role() -> None:
    settings = json.loads(
        rendered("settings.json", hub="https://hub.internal/", mirror="http://mirror.internal")
    )

    assert settings["hub"] == "https://hub.internal"
    assert settings["mirror"] == "http://mirror.internal"
    assert (settings["root"], settings["parallel"], settings["reserve_mib"]) == ("/models", 6, 2048)


def test_the_token_is_the_last_line() -> None:
    assert rendered("token", token="hf_secret").splitlines()[-1] == "hf_secret"
    assert [line for line in rendered("token").splitlines() if line and not line.startswith("#")] == []
