"""Events as a live table, as plain lines and as JSON lines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from freehold.cli.render import JsonRenderer, LiveRenderer, PlainRenderer, Renderer, renderer
from freehold.events import Event, Stage, Status

MARKUP = "Write [/etc/caddy] [bold]now[/]"


def events() -> list[Event]:
    def made(stage: Stage, status: Status, step: str, host: str = "", message: str = "") -> Event:
        return Event(stage=stage, status=status, step=step, host=host, message=message)

    return [
        made(Stage.BASE, Status.STARTED, "Giving hosts their base system"),
        made(Stage.BASE, Status.STARTED, "Locale", "caddy"),
        made(Stage.BASE, Status.OK, "Locale", "caddy"),
        made(Stage.BASE, Status.CHANGED, MARKUP, "caddy", "1 file"),
        made(Stage.BASE, Status.FAILED, "Packages", "postgres", "no network"),
        made(Stage.BASE, Status.CHANGED, "Giving hosts their base system", message="1 change"),
    ]


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None)


def shown(made: Renderer, screen: Console) -> str:
    with made as sink:
        for event in events():
            sink(event)
    file = screen.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize(
    ("json", "verbose", "terminal", "kind"),
    [
        (True, False, True, JsonRenderer),
        (False, False, True, LiveRenderer),
        (False, True, True, PlainRenderer),
        (False, False, False, PlainRenderer),
    ],
)
def test_which_one_is_taken(json: bool, verbose: bool, terminal: bool, kind: type[Renderer]) -> None:
    assert type(renderer(console(terminal=terminal), json=json, verbose=verbose)) is kind


def test_plain_lines_leave_out_what_had_nothing_to_do() -> None:
    screen = console(terminal=False)
    lines = [
        line.split("s ", 1)[1] for line in shown(PlainRenderer(screen, verbose=False), screen).splitlines()
    ]
    assert lines == [
        "[base] started: Giving hosts their base system",
        f"[base] caddy changed: {MARKUP}: 1 file",
        "[base] postgres failed: Packages: no network",
        "[base] changed: Giving hosts their base system: 1 change",
    ]


def test_verbose_lines_leave_out_nothing() -> None:
    screen = console(terminal=False)
    assert len(shown(PlainRenderer(screen, verbose=True), screen).splitlines()) == len(events())


def test_json_lines_are_the_events(capsys: pytest.CaptureFixture[str]) -> None:
    given = events()
    with JsonRenderer() as sink:
        for event in given:
            sink(event)
    assert [Event.model_validate_json(line) for line in capsys.readouterr().out.splitlines()] == given


def test_the_live_table_ends_with_the_worst_of_each_stage() -> None:
    screen = console(terminal=True)
    text = shown(LiveRenderer(screen), screen)
    last = text[text.rindex("host") :]
    rows = {line.split()[0]: line.split()[1:] for line in last.splitlines() if line.strip()}
    assert rows["caddy"] == ["changed"]
    assert rows["postgres"] == ["failed"]


def test_the_live_table_shows_the_step_under_way_as_it_is_named() -> None:
    screen = console(terminal=True)
    with LiveRenderer(screen) as sink:
        sink(Event(stage=Stage.BASE, status=Status.STARTED, step=MARKUP, host="caddy"))
        sink._live.refresh()  # type: ignore[attr-defined]
    file = screen.file
    assert isinstance(file, io.StringIO)
    assert f"base: caddy: {MARKUP}" in file.getvalue()


def test_a_failure_leaves_the_table_and_gives_the_terminal_back() -> None:
    screen = console(terminal=True)

    def stage() -> None:
        with LiveRenderer(screen) as sink:
            sink(events()[3])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stage()
    file = screen.file
    assert isinstance(file, io.StringIO)
    text = file.getvalue()
    assert "changed" in text[text.rindex("host") :]
    assert text.rstrip("\n").endswith("\x1b[?25h")
