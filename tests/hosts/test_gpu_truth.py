"""Proof that every engine computes on the GPUs that it was given, by its own account and by that of its node.

A unit that runs is no evidence: engines fall back to the CPU without a word. Each language model is asked for one token, and
then it must be in the memory of the right card. ``freehold.gpu_truth`` runs on the host and on the node, and says how.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host as Machine

from freehold import gpu_truth
from freehold.gpu_truth import Expected, Seen
from freehold.layout.gpu_truth import engines, expectation
from freehold.layout.types import Host, Layout, ServicePlacement

_PROGRAM = Path(gpu_truth.__file__).read_text(encoding="utf-8")


@pytest.fixture
def service(layout: Layout, this_host: Host) -> ServicePlacement:
    """The engine on the host at hand."""
    (found,) = (each for each in engines(layout) if each.host == this_host.name)
    return found


@pytest.fixture
def expected(layout: Layout, service: ServicePlacement) -> Expected:
    return expectation(layout, service)


@pytest.fixture
def told(host: Machine, expected: Expected) -> dict[str, Any]:
    """What the engine says after each of its language models was asked for a token."""
    asked = json.dumps(expected.as_dict())
    answer: dict[str, Any] = json.loads(host.check_output("python3 -I -c %s engine %s", _PROGRAM, asked))
    return answer


@pytest.fixture
def seen(layout: Layout, this_host: Host, machine: Callable[[str], Machine]) -> Seen | None:
    """What the node sees; nothing where the client gives no SSH to it."""
    access = {node.name: node.address for node in layout.nodes}
    if not access.get(this_host.node):
        return None
    node = machine(this_host.node)
    try:
        return Seen.of(json.loads(node.check_output("python3 -I -c %s node", _PROGRAM)))
    except (RuntimeError, AssertionError) as error:
        pytest.fail(f"{this_host.node} cannot be asked for its GPUs over SSH: {error}", pytrace=False)


def _hold(problems: list[str]) -> None:
    if problems:
        pytest.fail("; ".join(problems), pytrace=False)


def test_every_language_model_answers_and_computes_where_the_stack_says(
    told: dict[str, Any], expected: Expected
) -> None:
    _hold(gpu_truth.judge_engine(expected, told))


def test_the_engine_is_in_the_memory_of_its_own_gpus_and_of_no_other(
    told: dict[str, Any], expected: Expected, seen: Seen | None
) -> None:
    if not expected.gpus:
        pytest.skip(f"the stack says that {expected.service} computes on the CPU")
    if not expected.measured:
        pytest.skip(
            "no tool of Intel tells whose memory of a card is in use: the engine's own word counts alone"
        )
    # Without SSH to the node: the memory of the cards as a whole, which the container sees too. Where that is no evidence, the
    # judgement says so.
    _hold(gpu_truth.judge_cards(expected, told) if seen is None else gpu_truth.judge(expected, seen))
