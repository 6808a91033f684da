"""The pack as one web page: complete in itself, so that it opens without a network and prints well."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from freehold.run.evidence.blocks import Facts, Grid, Heading
from freehold.run.evidence.pack import Pack

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evidence of {{ pack.client }}, {{ pack.made.date() }}</title>
<style>
 body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2330; }
 h1 { margin-bottom: .2rem; } h2 { margin: 2.5rem 0 .3rem; border-bottom: 2px solid #1d2330; } h3 { margin: 1.4rem 0 .3rem; font-size: 1rem; }
 table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.2rem; table-layout: fixed; }
 td, th { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #e3e6ec; vertical-align: top; overflow-wrap: anywhere; }
 td { white-space: pre-line; }
 th { border-bottom-color: #9aa3b2; } th[scope] { border-bottom-color: #e3e6ec; }
 caption { text-align: left; font-weight: 600; padding: .3rem .6rem; }
 .passed { color: #0a7a3d; } .failed, .gone { color: #b3261e; font-weight: 600; } .skipped, .none { color: #8a6d00; }
 .serves { color: #5b6475; font-size: 13px; margin: 0 0 .6rem; }
 .note { background: #f6f7f9; padding: .6rem .9rem; }
 .missing { border-left: 4px solid #8a6d00; padding: .1rem 1rem; margin: 1.2rem 0; background: #fdfaf0; }
 code { background: #eef0f4; padding: 0 .2em; font-size: 13px; overflow-wrap: anywhere; }
 nav ol { columns: 2; } a { color: #1b4f9c; }
 @media print { body { max-width: none; margin: 0; font-size: 11px; } h2 { break-after: avoid; } tr { break-inside: avoid; } a { color: inherit; text-decoration: none; } @page { margin: 16mm; } }
</style></head><body>
<h1>Evidence of {{ pack.client }}</h1>
<p>{{ pack.made.strftime("%d %B %Y, %H:%M UTC") }}. Written by Freehold {{ pack.version }} from {{ pack.sources }}.
{% if pack.fingerprint %}Signed with the key <code>{{ pack.fingerprint }}</code>.{% endif %}</p>
<p class="note">{{ pack.caveat }}</p>
<div class="missing"><h2 id="missing">What is missing</h2>
{% if pack.gaps %}<p>What this pack looked for and did not find: {{ pack.gaps|length }}, each with what would supply it.</p>
<table><colgroup><col style="width:44%"><col style="width:34%"><col style="width:22%"></colgroup>
<tr><th>Missing</th><th>What supplies it</th><th>Asked for by</th></tr>
{% for gap in pack.gaps %}<tr><td>{{ gap.what|inline }}</td><td>{{ gap.supply|inline }}</td><td>{{ gap.serves|join(", ") }}</td></tr>
{% endfor %}</table>{% else %}<p>Nothing that this pack looks for.</p>{% endif %}</div>
<nav><ol>{% for section in pack.sections %}<li><a href="#{{ section.id }}">{{ section.title }}</a></li>{% endfor %}<li><a href="#articles">Articles</a></li><li><a href="#files">Files</a></li></ol></nav>
{% for section in pack.sections %}<h2 id="{{ section.id }}">{{ loop.index }}. {{ section.title }}</h2>
<p class="serves"><a href="#articles">Serves</a> {{ section.articles|join(", ") }}</p>
{% for block in section.blocks %}{{ block|block }}
{% endfor %}{% endfor %}
<h2 id="articles">Articles</h2>
<table><colgroup><col style="width:16%"><col style="width:46%"><col style="width:18%"><col style="width:20%"></colgroup>
<tr><th>Article</th><th>What it asks, in short</th><th>Applies</th><th>Served by</th></tr>
{% for row in pack.served %}<tr><td>{{ row.article.short }}
{{ row.article.title }}</td><td>{{ row.article.asks }}</td><td>{{ row.article.applies }}</td><td>{{ row.where }}</td></tr>
{% endfor %}</table>
<h2 id="files">Files</h2>
<p>This page holds all of it; the files hold the same for machines. SHA256SUMS lists the checksum of each, and SHA256SUMS.sig is its signature
(Ed25519). <code>freehold evidence verify</code> checks both; so do <code>sha256sum</code> and <code>openssl</code>, as docs/evidence.md shows.</p>
<ul>{% for name in pack.names %}<li><code>{{ name }}</code></li>{% endfor %}</ul>
</body></html>
"""

_CODE = re.compile(r"`([^`]+)`")
_OUTCOMES = {"passed", "failed", "skipped"}


def html(pack: Pack) -> str:
    """The page."""
    return _environment().from_string(_PAGE).render(pack=pack)


@cache
def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"inline": _inline, "block": _block}
    return environment


def _inline(text: str) -> Markup:
    """A text whose parts between backticks are commands or keys."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _block(block: object) -> Markup:
    if isinstance(block, Heading):
        return Markup("<h3>{}</h3>").format(block.text)
    if isinstance(block, Facts):
        rows = Markup("").join(
            Markup("<tr><th scope=row>{}</th><td>{}</td></tr>").format(name, _value(value))
            for name, value in block.rows
        )
        return Markup('<table><colgroup><col style="width:32%"><col></colgroup>{}</table>').format(rows)
    if isinstance(block, Grid):
        return _grid(block)
    return Markup("<p>{}</p>").format(_inline(getattr(block, "text", "")))


def _value(value: str) -> Markup:
    return _inline(value) if value else Markup('<span class="none">not stated</span>')


def _grid(grid: Grid) -> Markup:
    title = Markup("<h3>{}</h3>").format(grid.title) if grid.title else Markup("")
    if not grid.rows:
        return title + Markup("<p>{}</p>").format(grid.empty)
    whole = sum(grid.widths)
    columns = Markup("").join(
        Markup('<col style="width:{}%">').format(round(100 * width / whole)) for width in grid.widths
    )
    head = Markup("").join(Markup("<th>{}</th>").format(text) for text in grid.head)
    rows = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(_cell(text) for text in row)) for row in grid.rows
    )
    return title + Markup("<table><colgroup>{}</colgroup><tr>{}</tr>{}</table>").format(columns, head, rows)


def _cell(text: str) -> Markup:
    if text in _OUTCOMES:
        return Markup('<td class="{}">{}</td>').format(text, text)
    return Markup("<td>{}</td>").format(_inline(text))
