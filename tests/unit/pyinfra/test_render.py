from __future__ import annotations

from pathlib import Path

import pytest

from freehold import resources
from freehold.render import RenderError, render


def write(root: Path, text: str) -> None:
    (root / "x").mkdir()
    (root / "x" / "a.conf.j2").write_text(text)


def test_renders_like_ansible_and_keeps_the_trailing_newline(tmp_path: Path) -> None:
    write(tmp_path, "# head\n{% for n in names %}\n  {{ n }}\n{% endfor %}\nlast\n")

    text = render("x/a.conf.j2", {"names": ["a", "b"]}, root=tmp_path)

    assert text == "# head\n  a\n  b\nlast\n"


def test_an_undefined_name_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, "one\n{{ missing }}\n")

    with pytest.raises(RenderError) as caught:
        render("x/a.conf.j2", {}, root=tmp_path)

    assert caught.value.where is not None
    assert caught.value.where.endswith("x/a.conf.j2:2")
    assert "missing" in (caught.value.answer or "")


def test_a_syntax_error_names_the_line(tmp_path: Path) -> None:
    write(tmp_path, "one\ntwo\n{% if %}\n")

    with pytest.raises(RenderError, match="cannot be rendered") as caught:
        render("x/a.conf.j2", {}, root=tmp_path)

    assert caught.value.where == "x/a.conf.j2:3"


def test_a_missing_template_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="cannot be rendered"):
        render("x/none.j2", {}, root=tmp_path)


@pytest.mark.parametrize("path", sorted((resources.templates() / "base").glob("*.j2")), ids=lambda p: p.name)
def test_base_templates_say_who_manages_them(path: Path) -> None:
    assert "Managed by Freehold" in path.read_text(encoding="utf-8").splitlines()[0]
