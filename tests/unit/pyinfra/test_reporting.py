from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyinfra.api.exceptions import ConnectError

from freehold.events import Event, Stage
from freehold.pyinfra import reporting


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        ("Authentication error () (Authentication failed.)", "freehold down"),
        ("SSH error ([Errno 113] No route to host)", "See whether the container runs"),
    ],
)
def test_a_host_that_is_not_reached_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, answer: str, remedy: str
) -> None:
    events: list[Event] = []
    monkeypatch.setattr(reporting, "name", lambda host: host.name)
    reporter = reporting.Reporter(Stage.BASE, events.append)

    reporter.host_connect_error(
        cast("Any", None), cast("Any", SimpleNamespace(name="caddy")), ConnectError(answer)
    )

    assert remedy in events[0].data["error"]["remedy"]
    assert events[0].message == answer
