"""The shipper of the audit trail, against a stand-in of Langfuse that fails, loses and takes twice."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from . import traces_standin

Record = Callable[..., dict[str, Any]]


@pytest.fixture
def traces() -> Iterator[Any]:
    server = traces_standin.TracesStandin()
    yield server
    server.close()


@pytest.fixture
def spool(programs: SimpleNamespace, tmp_path: Path) -> Any:
    return programs.spool.Spool(tmp_path / "var")


@pytest.fixture
def shipper(programs: SimpleNamespace, spool: Any, traces: Any) -> Any:
    return programs.shipper.Shipper(spool, programs.shipper.Langfuse(traces.url, "pk", "sk"))


def full(record: Record, **others: Any) -> dict[str, Any]:
    begun = record()
    return begun | {
        "ended": begun["began"] + 1500,
        "first": begun["began"] + 200,
        "status": "success",
        "code": 200,
        "error": None,
        "output": {"role": "assistant", "content": "Good day."},
        "cut": False,
        "model": "qwen3-8b",
        "answered_by": "assistant@vllm",
        "digest": "sha256:1234",
        "revision": "abcdef",
        "route": {"route": "local", "reason": "sensitive", "categories": ["iban"], "detectors": ["iban"]},
        "tokens": {"input": 3, "output": 4, "total": 7},
        "cost": 0.25,
        "router_id": "call-1",
        **others,
    }


def keep(spool: Any, each: dict[str, Any]) -> str:
    name: str = spool.begin(each)
    spool.end(name, each)
    return name


def test_a_record_becomes_one_trace_with_all_that_is_known(
    shipper: Any, spool: Any, traces: Any, record: Record
) -> None:
    each = full(record)
    keep(spool, each)
    assert shipper.send() == 1

    (span,) = traces.spans.values()
    told = traces_standin.attributes(span)
    assert span["traceId"] == each["id"]
    assert int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"]) == 1_500_000_000
    assert told["langfuse.user.id"] == "ada@acme.example"
    assert told["langfuse.session.id"] == "chat-1"
    assert told["langfuse.observation.type"] == "generation"
    assert told["langfuse.observation.model.name"] == "qwen3-8b"
    assert json.loads(told["langfuse.observation.input"]) == [{"role": "user", "content": "Hello"}]
    assert json.loads(told["langfuse.observation.output"])["content"] == "Good day."
    assert json.loads(told["langfuse.observation.usage_details"]) == {"input": 3, "output": 4, "total": 7}
    assert json.loads(told["langfuse.observation.cost_details"]) == {"total": 0.25}
    assert told["langfuse.observation.metadata.model_digest"] == "sha256:1234"
    assert told["langfuse.observation.metadata.route_route"] == "local"
    assert json.loads(told["langfuse.observation.metadata.route_categories"]) == ["iban"]
    assert told["langfuse.observation.metadata.latency_ms"] == "1500"
    assert told["langfuse.trace.tags"] == ["openwebui", "success", "local"]


def test_a_record_stays_until_langfuse_shows_it(
    shipper: Any, spool: Any, traces: Any, record: Record
) -> None:
    name = keep(spool, full(record))
    traces.loses = lambda span: True
    shipper.send()
    assert shipper.confirm() == 0
    assert spool.names("sent") == [name]
    # It was acknowledged, and lost in the queue behind: it is sent again.
    path = spool.folder("sent") / name
    os.utime(path, (time.time() - 1000,) * 2)
    shipper.confirm()
    assert spool.names("done") == [name]
    traces.loses = lambda span: False
    shipper.send()

    assert shipper.confirm() == 1
    assert spool.names("sent") == spool.names("done") == []
    assert shipper.again == 1


def test_sending_twice_is_one_trace(shipper: Any, spool: Any, traces: Any, record: Record) -> None:
    name = keep(spool, full(record))
    shipper.send()
    spool.move(name, "sent", "done")
    shipper.send()

    assert traces.received == 2
    assert len(traces.spans) == 1


def test_nothing_is_lost_or_doubled_by_a_server_that_fails_by_chance(
    shipper: Any, spool: Any, traces: Any, record: Record
) -> None:
    chance = random.Random(7)
    wanted = set()
    for _ in range(250):
        each = full(record)
        wanted.add(each["id"])
        keep(spool, each)
    traces.fault = lambda spans: chance.choice(
        [None, None, (500, {}), (429, {}), (503, {"message": "away"}), (401, {"message": "no"})]
    )
    traces.loses = lambda span: chance.random() < 0.05
    deadline = time.monotonic() + 60
    while spool.names("done") or spool.names("sent"):
        assert time.monotonic() < deadline
        shipper._try(shipper.send)
        shipper._try(shipper.confirm)
        for name in spool.names("sent"):
            os.utime(spool.folder("sent") / name, (time.time() - 1000,) * 2)

    assert {span["traceId"] for span in traces.spans.values()} == wanted
    assert len(traces.spans) == 250
    assert spool.names("aside") == []


def test_a_poisoned_record_goes_aside_and_holds_up_no_other(
    shipper: Any, spool: Any, traces: Any, record: Record
) -> None:
    names = [keep(spool, full(record)) for _ in range(20)]
    bad = spool.read("done", names[7])["id"]
    (spool.folder("done") / names[3]).write_text("{not json", encoding="utf-8")
    (spool.folder("done") / names[4]).write_text('{"format": 99, "id": "x"}', encoding="utf-8")

    def refuse(spans: list[dict[str, Any]]) -> tuple[int, Any] | None:
        return (400, {"message": "bad span"}) if bad in {span["traceId"] for span in spans} else None

    traces.fault = refuse
    assert shipper.send() == 17
    assert spool.names("aside") == sorted([names[3], names[4], names[7]])
    assert 'freehold_audit_records{state="aside"} 3' in shipper.figures()


def test_a_call_whose_end_nobody_wrote_is_late_after_an_hour(
    shipper: Any, spool: Any, record: Record
) -> None:
    """As where the disk is full at its end: its process lives, so that it is not taken for interrupted."""
    now = time.time_ns() // 1_000_000
    spool.join()
    spool.begin(record(began=now - 1_800_000))
    assert "freehold_audit_oldest_seconds 0\n" in shipper.figures()

    spool.begin(record(began=now - 7_200_000))
    assert "freehold_audit_oldest_seconds 72" in shipper.figures()


def test_spans_that_are_rejected_in_part_are_not_taken_for_sent(
    shipper: Any, spool: Any, traces: Any, record: Record
) -> None:
    keep(spool, full(record))
    traces.fault = lambda spans: (200, {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too long"}})
    shipper.send()

    assert len(spool.names("aside")) == 1


def test_an_outage_is_waited_for_longer_each_time(
    shipper: Any, spool: Any, traces: Any, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(spool, full(record))
    traces.close()
    waits = []
    for _ in range(8):
        shipper._try(shipper.send)
        waits.append(shipper.wait)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert shipper._next_send > time.monotonic()
    assert len(spool.names("done")) == 1
    assert "Ada" not in capsys.readouterr().err


def test_what_is_missing_is_counted(
    programs: SimpleNamespace, shipper: Any, spool: Any, traces: Any, record: Record
) -> None:
    """1 shown, 1 lost for good, 1 erased, 1 waiting, 1 aside, 1 outside the window."""
    shown, lost, erased, aside = (full(record) for _ in range(4))
    names = {each["id"]: keep(spool, each) for each in (shown, lost, erased, aside)}
    shipper.send()
    spool.remove("sent", names[lost["id"]])
    traces.spans = {key: span for key, span in traces.spans.items() if span["traceId"] == shown["id"]}
    programs.shipper.erase(spool, "nobody", [erased["id"]])
    spool.remove("sent", names[erased["id"]])
    spool.move(names[aside["id"]], "sent", "aside")
    keep(spool, full(record))
    keep(spool, full(record) | {"began": shown["began"] - 3_600_000})

    found = programs.shipper.compare(spool, shipper.langfuse, shown["began"] - 1000, shown["began"] + 60_000)
    assert found == {
        "calls": 5,
        "traces": 1,
        "waiting": 1,
        "aside": 1,
        "erased": 1,
        "missing": [lost["id"]],
    }


def test_traces_are_counted_over_many_pages(
    programs: SimpleNamespace, shipper: Any, spool: Any, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs.shipper, "PAGE", 7)
    calls = [full(record) for _ in range(40)]
    for each in calls:
        keep(spool, each)
    shipper.send()

    found = programs.shipper.compare(spool, shipper.langfuse, calls[0]["began"] - 1, calls[-1]["began"] + 1)
    assert (found["calls"], found["traces"], found["missing"]) == (40, 40, [])


def test_a_persons_records_leave_the_spool_and_the_check_does_not_alarm(
    programs: SimpleNamespace, shipper: Any, spool: Any, traces: Any, record: Record
) -> None:
    hers, others = [full(record) for _ in range(3)], full(record, user="max@acme.example")
    keep(spool, hers[0])
    shipper.send()
    traces.spans.clear()
    keep(spool, hers[1])
    spool.move(keep(spool, hers[2]), "done", "aside")
    keep(spool, others)

    found = programs.shipper.erase(spool, "ada@acme.example", [])
    assert found == {"removed": 2, "sent": [hers[0]["id"]], "noted": 3}
    left = [name for state in ("open", "done", "sent", "aside") for name in spool.names(state)]
    assert [programs.spool.identifier_of(name) for name in left] == [others["id"]]
    checked = programs.shipper.compare(spool, shipper.langfuse, hers[0]["began"] - 1, others["began"] + 1)
    assert (checked["missing"], checked["erased"], checked["waiting"]) == ([], 3, 1)


def test_an_interrupted_call_becomes_a_trace_that_says_so(
    programs: SimpleNamespace, shipper: Any, spool: Any, traces: Any, record: Record
) -> None:
    spool.begin(record())
    shipper.turn()

    (span,) = traces.spans.values()
    told = traces_standin.attributes(span)
    assert told["langfuse.observation.metadata.status"] == "interrupted"
    assert told["langfuse.observation.level"] == "ERROR"
    assert json.loads(told["langfuse.observation.input"])[0]["content"] == "Hello"
    assert shipper.interrupted == 1
