"""What the files of vLLM hold."""

from __future__ import annotations

from typing import Any

import yaml

from freehold import render, resources


def config(**others: Any) -> str:
    defaults = yaml.safe_load((resources.roles() / "vllm/defaults/main.yml").read_text(encoding="utf-8"))
    given = {**defaults, **{f"vllm_{name}": value for name, value in others.items()}}
    return render.render("vllm/config.yaml.j2", {**given, "vllm__directory": "/var/lib/vllm/models/m"})


def test_other_weights_under_the_same_name_change_the_configuration() -> None:
    """The service restarts by its configuration, also where a run was cut off between the download and the restart."""
    one = [{"name": "model.safetensors", "url": "http://mirror/m", "sha256": "1" * 64}]
    other = [{**one[0], "sha256": "2" * 64}]

    assert config(model_files=one) != config(model_files=other)
    assert yaml.safe_load(config(model_files=one)) == yaml.safe_load(config())
