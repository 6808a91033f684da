"""pyinfra against its own ``@fake`` connector: operations are asked which commands they would run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.context import ctx_config, ctx_host, ctx_state

Commands = Callable[..., list[str]]


@pytest.fixture
def commands() -> Commands:
    """``commands(operation, answers, **arguments)``: the commands that an operation yields when hosts answer so.

    ``answers`` maps a regular expression over the fact's command to its output lines.
    """

    def ask(operation: Any, answers: dict[str, list[str]], **arguments: Any) -> list[str]:
        responses = {re.compile(key, re.DOTALL): value for key, value in answers.items()}
        data = {"fake_responses": responses, "fake_delay": 0, "fake_delay_jitter": 0}
        state = State(Inventory((["@fake/one"], data)), Config(), check_for_changes=False)
        host = next(iter(state.inventory))
        with ctx_state.use(state), ctx_config.use(state.config), ctx_host.use(host):
            host.connect()
            state.activate_host(host)
            return [str(command) for command in operation._inner(**arguments)]

    return ask
