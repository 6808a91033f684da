"""What the GPU truth test expects of each engine of a layout: see :mod:`freehold.gpu_truth`."""

from __future__ import annotations

from typing import NamedTuple

from freehold.catalog import services as catalog
from freehold.gpu_truth import MINIMUM, Expected
from freehold.layout.types import Layout, ServicePlacement

_PART_OF_WEIGHTS = 0.9
"""Part of the computed size of the weights that must be on a card: what is computed and what is measured differ by some
percent, and an engine that holds its weights holds its memory of conversations too."""

_MEASURED = {"nvidia", "amd"}
_LOADED = 256
"""MiB that a process with a language model holds at least, however small that is: what CUDA itself takes."""


class _Engine(NamedTuple):
    """How an engine is reached on its own host, past the proxy: as its role's templates set it up."""

    unit: str
    port: int
    key_file: str = ""
    key_name: str = ""
    every: bool = True


_ENGINES = {
    "vllm": _Engine("vllm.service", 8001, "/etc/vllm/secrets.env", "VLLM_API_KEY"),
    "sglang": _Engine("sglang.service", 30001),
    "ollama": _Engine("ollama.service", 11434, every=False),
}


def engines(layout: Layout) -> list[ServicePlacement]:
    """The inference services of a layout that the test knows how to ask."""
    return [service for service in layout.services if service.role in _ENGINES]


def expectation(layout: Layout, service: ServicePlacement) -> Expected:
    """What must be true of an engine; without GPUs where the stack says that it computes on the CPU."""
    engine, host = _ENGINES[service.role], layout.host(service.host)
    models = [model for model in layout.models if model.engine == service.name]
    on_gpu = _device(service) != "cpu"
    return Expected(
        service=service.name,
        role=service.role,
        vmid=host.vmid,
        unit=engine.unit,
        url=f"http://127.0.0.1:{engine.port}",
        key_file=engine.key_file,
        key_name=engine.key_name,
        gpus=tuple(gpu.key for gpu in host.gpus) if on_gpu else (),
        every=engine.every,
        shared=any(gpu.share < 1 for gpu in host.gpus),
        measured=all(gpu.vendor in _MEASURED for gpu in host.gpus),
        minimum=_minimum(layout, service),
        models=tuple(model.served for model in models),
    )


def watched(layout: Layout) -> list[ServicePlacement]:
    """The engines that compute on GPUs: a timer looks after them."""
    return [service for service in engines(layout) if expectation(layout, service).gpus]


def _device(service: ServicePlacement) -> str:
    key = f"{service.role}_device"
    default = catalog.argument_specs(service.role).get(key, {}).get("default")
    return str(service.variables.get(key, default))


def _minimum(layout: Layout, service: ServicePlacement) -> int:
    """MiB that each card must hold at least: part of the weights of an engine that keeps all of them there."""
    if not _ENGINES[service.role].every:
        return _LOADED
    weights = [
        int(model.sizing["per_gpu"]["weights"])
        for model in layout.models
        if model.engine == service.name and model.sizing and model.sizing.get("per_gpu")
    ]
    return round(sum(weights) * _PART_OF_WEIGHTS) or MINIMUM
