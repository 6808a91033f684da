"""Traces as signed files, and what is told of files that somebody touched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from freehold import ssh
from freehold.errors import BadInputError, FreeholdError
from freehold.run import audit_check, audit_export, audit_host
from freehold.run.audit_check import Period
from freehold.run.context import Client
from freehold.signing import PUBLIC_KEY, ManifestError

PERIOD = Period(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 3, 12, tzinfo=UTC))
FOUND = {"calls": 3, "traces": 2, "waiting": 0, "aside": 0, "erased": 0, "missing": ["f" * 32]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked of Langfuse; it has two traces on the second day."""
    spans: list[dict[str, Any]] = []

    def of_langfuse(client: Client, program: Path, given: dict[str, Any], **_: Any) -> list[str]:
        spans.append(given)
        there = given["from"] == "2026-11-02T00:00:00.000Z"
        return [json.dumps({"trace": name, "observations": [{}]}) for name in ("a", "b")] if there else []

    monkeypatch.setattr(audit_host, "of_langfuse", of_langfuse)
    monkeypatch.setattr(audit_host, "of_router", lambda *_, **__: FOUND)
    return spans


@pytest.fixture
def exported(
    open_client: Callable[..., Client], asked: list[dict[str, Any]], tmp_path: Path
) -> audit_export.Exported:
    opened = open_client(services={"langfuse": None})
    opened.ensure_secrets()
    return audit_export.export(opened, PERIOD, tmp_path / "out")


def test_an_export_has_a_file_per_day_and_says_what_is_missing(
    exported: audit_export.Exported, asked: list[dict[str, Any]]
) -> None:
    found, manifest = audit_export.verify(exported.folder)

    assert [span["to"][:10] for span in asked] == ["2026-11-02", "2026-11-03", "2026-11-03"]
    assert (exported.traces, exported.files) == (2, 1)
    assert [file["name"] for file in manifest["files"]] == ["traces-2026-11-02.jsonl"]
    assert manifest["completeness"]["missing"] == ["f" * 32]
    assert manifest["client"] == "acme"
    assert (found.fingerprint, found.known) == (exported.fingerprint, False)
    assert (exported.folder / "traces-2026-11-02.jsonl").stat().st_mode & 0o077 == 0


def test_the_key_of_the_client_proves_who_signed(exported: audit_export.Exported) -> None:
    key = (exported.folder / PUBLIC_KEY).read_bytes()

    assert audit_export.verify(exported.folder, key)[0].known
    with pytest.raises(ManifestError):
        audit_export.verify(exported.folder, "0" * 64)


def _line_changed(folder: Path) -> None:
    path = folder / "traces-2026-11-02.jsonl"
    path.write_text(path.read_text().replace('"a"', '"c"'))


def _line_removed(folder: Path) -> None:
    path = folder / "traces-2026-11-02.jsonl"
    path.write_text(path.read_text().splitlines()[0] + "\n")


def _manifest_changed(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"missing"', '"none"'))


def _file_removed(folder: Path) -> None:
    (folder / "traces-2026-11-02.jsonl").unlink()


def _file_added(folder: Path) -> None:
    (folder / "traces-2026-11-01.jsonl").write_text("{}\n")


@pytest.mark.parametrize(
    "touch", [_line_changed, _line_removed, _manifest_changed, _file_removed, _file_added]
)
def test_whatever_was_touched_is_told(exported: audit_export.Exported, touch: Callable[[Path], None]) -> None:
    touch(exported.folder)

    with pytest.raises(FreeholdError):
        audit_export.verify(exported.folder)


def test_a_folder_with_files_in_it_is_not_written_to(
    open_client: Callable[..., Client], asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "old").write_text("x")

    with pytest.raises(BadInputError, match="not empty"):
        audit_export.export(open_client(services={"langfuse": None}), PERIOD, tmp_path)
    assert asked == []


def test_a_call_without_a_trace_makes_the_check_fail() -> None:
    whole = audit_check.Completeness("", "", 3, 3, 0, 0, 0, ())

    assert whole.complete
    assert not audit_check.Completeness("", "", 3, 2, 0, 0, 0, ("a",)).complete


@pytest.mark.parametrize(
    ("since", "until", "hours"),
    [
        ("2026-11-01", "2026-11-01", 24),
        ("2026-11-01", "2026-11-30", 720),
        ("2026-11-01T00:00+01:00", "2026-11-01", 25),
    ],
)
def test_days_are_whole(since: str, until: str, hours: int) -> None:
    found = audit_check.period(since, until)

    assert (found.until - found.since).total_seconds() == hours * 3600


@pytest.mark.parametrize(
    ("since", "until"), [("2026-11-02", "2026-11-01"), ("yesterday", None), (None, "2026-13-01")]
)
def test_other_periods_are_refused(since: str | None, until: str | None) -> None:
    with pytest.raises(BadInputError):
        audit_check.period(since, until)


def test_the_program_on_the_host_puts_pages_together(tmp_path: Path) -> None:
    """Against an API of two pages: a line per trace, oldest first."""
    server = tmp_path / "server.py"
    server.write_text(
        "import http.server, json, sys, urllib.parse\n"
        "rows = [{'id': str(n), 'traceId': f't{n // 2}', 'startTime': f'2026-11-0{9 - n}'} for n in range(6)]\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))\n"
        "        start = int(asked.get('cursor', 0))\n"
        "        meta = {'cursor': str(start + 4)} if start + 4 < len(rows) else {}\n"
        "        body = json.dumps({'data': rows[start:start + 4], 'meta': meta}).encode()\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(body)\n"
        "    def log_message(self, *_): pass\n"
        "made = http.server.HTTPServer(('127.0.0.1', 0), H)\n"
        "print(made.server_port, flush=True)\n"
        "made.serve_forever()\n"
    )
    with subprocess.Popen([sys.executable, str(server)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        url = f"http://127.0.0.1:{running.stdout.readline().strip()}"
        given = {"url": url, "public_key": "a", "secret_key": "b", "from": "1", "to": "2", "metadata": ["x"]}
        done = subprocess.run(
            [sys.executable, str(audit_export._REMOTE)],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=True,
        )
        running.kill()

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["trace"] for line in lines] == ["t2", "t1", "t0"]
    assert [entry["id"] for entry in lines[0]["observations"]] == ["5", "4"]


def test_a_line_that_somebody_wrote_does_not_end_a_line(
    open_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON may hold U+2028, U+2029 and U+0085 as they are."""
    lines = [
        json.dumps({"trace": name, "text": "one\u2028two\u2029three\x85four"}, ensure_ascii=False)
        for name in "ab"
    ]
    done = subprocess.CompletedProcess([], 0, "".join(f"{line}\n" for line in lines), "")
    monkeypatch.setattr(ssh, "run", lambda *_, **__: done)
    client = open_client(services={"langfuse": None})
    client.ensure_secrets()

    assert audit_host.of_langfuse(client, Path(__file__), {}, doing="a test", timeout=1) == lines
