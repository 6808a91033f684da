"""What the guides quote is what Freehold says."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

import freehold
from freehold.cli.main import app
from freehold.errors import ExitCode
from freehold.run import check
from freehold.run.context import Client

ROOT = Path(__file__).parents[3]
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIPEGnOW3Bd1tRQmi1GHn8wrBWv8Cvg4zvGzQ2ZqDwH3c"


@cache
def source() -> str:
    """All source text, with string literals that follow each other joined."""
    texts = [path.read_text() for path in sorted(Path(freehold.__file__).parent.rglob("*.py"))]
    return re.sub(r'"\s+f?"', "", "\n".join(texts))


def quotes() -> list[str]:
    """The texts of panels that the guide quotes, cut where a name or a number stands."""
    rows = re.findall(
        r"^\| (.*?) \| .* \| .* \|$", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE
    )
    found = [text for row in rows for text in re.findall(r"\*([^*]+)\*", row)]
    return [part.strip() for text in found for part in re.split(r"…|`[^`]*`", text) if len(part.strip()) > 3]


def test_the_guide_quotes_enough() -> None:
    assert len(quotes()) > 30


@pytest.mark.parametrize("quote", sorted(set(quotes())))
def test_panels_say_what_the_guide_quotes(quote: str) -> None:
    assert quote in source() or quote in {
        "Host key verification failed",
        "Permission denied",
        ": Permission denied",
    }


def test_every_exit_code_is_explained() -> None:
    text = (ROOT / "docs/reference/exit-codes.md").read_text()
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert listed == {*map(int, ExitCode), 130}


def test_the_stack_file_of_the_readme_can_be_laid_out_and_its_engine_has_its_gpu(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    text = text.replace("9A:3F:...", ":".join(["9A"] * 32)).replace("AAAA...", KEY)
    folder = tmp_path / "inventory/acme"
    folder.mkdir(parents=True)
    (folder / "stack.yml").write_text(text)
    client = Client.open(folder)
    assert [service.name for service in client.layout.services if service.name == "vllm"]
    assert list(check._engines(client.layout)) == []


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere_and_commands_exist(page: str) -> None:
    path = ROOT / page
    text = path.read_text()
    for link in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in link:
            assert (path.parent / link).exists(), link
    commands = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    commands |= {group.name for group in app.registered_groups if group.name}
    for name in re.findall(r"(?:`|^)(?:sudo )?freehold ([a-z-]+)", text, re.MULTILINE):
        assert name in commands, name
