"""The pack as a PDF (fpdf2), in the form for archives (PDF/A-3, ISO 19005-3): the same blocks as the web page."""

from __future__ import annotations

from pathlib import Path

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace

from freehold.run.evidence.blocks import Block, Facts, Grid, Heading
from freehold.run.evidence.pack import Pack

_FONTS = Path(__file__).parent / "fonts"
_FONT = "DejaVu Sans Condensed"
_INK, _GREY, _AMBER = (29, 35, 48), (91, 100, 117), (138, 109, 0)
_LINE, _SHADE = (227, 230, 236), (246, 247, 249)
_BODY, _SMALL = 9.0, 7.5
"""Points."""
_OUTCOMES = {
    "passed": FontFace(color=(10, 122, 61)),
    "failed": FontFace(color=(179, 38, 30), emphasis="BOLD"),
    "skipped": FontFace(color=_AMBER),
}
_HEIGHT = 4.6
"""Millimetres of a line of body text."""


class _Document(FPDF):
    def __init__(self, pack: Pack) -> None:
        super().__init__(format="A4", unit="mm", enforce_compliance="PDF/A-3B")
        self._foot = f"Evidence of {pack.client}, {pack.made:%d %B %Y, %H:%M} UTC. Not legal advice."
        self.add_font(_FONT, "", _FONTS / "DejaVuSansCondensed.ttf")
        self.add_font(_FONT, "B", _FONTS / "DejaVuSansCondensed-Bold.ttf")
        self.set_margins(18, 16, 18)
        self.set_auto_page_break(True, margin=20)
        self.set_title(f"Evidence of {pack.client}")
        self.set_author(f"Freehold {pack.version}")
        self.set_lang("en")
        self.set_creation_date(pack.made)
        self.set_draw_color(*_LINE)

    def footer(self) -> None:
        """The foot of each page."""
        self.set_y(-14)
        self.set_font(_FONT, "", _SMALL)
        self.set_text_color(*_GREY)
        self.cell(0, 5, self._foot, new_x=XPos.LMARGIN, new_y=YPos.TOP)
        self.cell(0, 5, f"{self.page_no()} of {{nb}}", align="R")

    def words(
        self, text: str, *, size: float = _BODY, bold: bool = False, ink: tuple[int, int, int] = _INK
    ) -> None:
        """A paragraph."""
        self.set_font(_FONT, "B" if bold else "", size)
        self.set_text_color(*ink)
        self.multi_cell(
            0, _HEIGHT * size / _BODY, _plain(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )

    def heading(self, text: str) -> None:
        """A heading of a section, never alone at the foot of a page."""
        if self.will_page_break(32):
            self.add_page()
        self.ln(5)
        self.start_section(text)
        self.words(text, size=14, bold=True)
        self.ln(1)

    def minor(self, text: str) -> None:
        """A heading inside a section."""
        if self.will_page_break(22):
            self.add_page()
        self.ln(2)
        self.words(text, bold=True)

    def facts(self, facts: Facts) -> None:
        """Values by name. Not a table: a value may be longer than a page."""
        name_width = 52.0
        for name, value in facts.rows:
            if self.will_page_break(_HEIGHT * 2):
                self.add_page()
            top, page = self.get_y(), self.page
            self.set_font(_FONT, "B", _SMALL + 0.5)
            self.set_text_color(*_GREY)
            self.multi_cell(name_width - 3, _HEIGHT, name, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
            low, low_page = self.get_y(), self.page
            self.page, self.y = page, top
            self.set_x(self.l_margin + name_width)
            self.set_font(_FONT, "", _BODY)
            self.set_text_color(*(_INK if value else _AMBER))
            before = self.l_margin
            self.set_left_margin(before + name_width)
            self.multi_cell(
                0, _HEIGHT, _plain(value) or "not stated", align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT
            )
            self.set_left_margin(before)
            if self.page == low_page:
                self.set_y(max(self.get_y(), low))
            self.line(self.l_margin, self.get_y() + 0.6, self.w - self.r_margin, self.get_y() + 0.6)
            self.ln(1.6)
        self.ln(1.5)

    def grid(self, grid: Grid) -> None:
        """A table, whose head is repeated on each page."""
        if grid.title:
            self.minor(grid.title)
        if not grid.rows:
            self.words(grid.empty)
            return
        self.set_font(_FONT, "", _SMALL)
        self.set_text_color(*_INK)
        with self.table(
            col_widths=grid.widths,
            text_align="LEFT",
            v_align="TOP",
            line_height=_HEIGHT * 0.82,
            padding=(0.7, 1.2, 0.7, 1.2),
            borders_layout="HORIZONTAL_LINES",
            headings_style=FontFace(emphasis="BOLD", color=_GREY, fill_color=_SHADE),
        ) as table:
            for row in (grid.head, *grid.rows):
                cells = table.row()
                for text in row:
                    cells.cell(_plain(text), style=_OUTCOMES.get(text))
        self.ln(1.5)


def pdf(pack: Pack) -> bytes:
    """The document."""
    document = _Document(pack)
    document.add_page()
    document.words(f"Evidence of {pack.client}", size=20, bold=True)
    document.words(
        f"{pack.made:%d %B %Y, %H:%M} UTC. Written by Freehold {pack.version} from {pack.sources}."
        + (f" Signed with the key {pack.fingerprint}." if pack.fingerprint else ""),
        ink=_GREY,
    )
    document.ln(2)
    document.words(pack.caveat)
    document.heading("What is missing")
    if pack.gaps:
        document.words(
            f"What this pack looked for and did not find: {len(pack.gaps)}, each with what would supply it."
        )
        document.ln(1)
    document.grid(
        Grid(
            ("Missing", "What supplies it", "Asked for by"),
            tuple((gap.what, gap.supply, ", ".join(gap.serves)) for gap in pack.gaps),
            (44, 34, 22),
            empty="Nothing that this pack looks for.",
        )
    )
    for number, section in enumerate(pack.sections, 1):
        document.heading(f"{number}. {section.title}")
        document.words(f"Serves {', '.join(section.articles)}", size=_SMALL, ink=_GREY)
        document.ln(1)
        for block in section.blocks:
            _show(document, block)
    document.heading("Articles")
    document.grid(
        Grid(
            ("Article", "What it asks, in short", "Applies", "Served by"),
            tuple(
                (
                    f"{row.article.short}\n{row.article.title}",
                    row.article.asks,
                    row.article.applies,
                    row.where,
                )
                for row in pack.served
            ),
            (17, 43, 18, 22),
        )
    )
    document.heading("Files")
    document.words("\n".join(pack.names))
    return bytes(document.output())


def _show(document: _Document, block: Block) -> None:
    if isinstance(block, Heading):
        document.minor(block.text)
    elif isinstance(block, Facts):
        document.facts(block)
    elif isinstance(block, Grid):
        document.grid(block)
    else:
        document.words(block.text)
        document.ln(1)


def _plain(text: str) -> str:
    """A text without the marks of commands; signs that the font lacks are shown as such."""
    return text.replace("`", "")
