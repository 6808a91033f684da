"""Encodings that hide a text in a text: found, and read in place, layer under layer."""

from __future__ import annotations

import base64
import binascii
import contextlib
import html
import re
import zlib
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from .fold import View, substitute

DEPTH = 4
"""Layers that are read, one in the other."""
GROWTH = 1_000_000
"""Most characters that a decompressed or unescaped text may have."""

_BASE64 = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{8,}(?:\r?\n[ \t]{0,8}[A-Za-z0-9+/_-]{8,})*={0,2}")
_BASE32 = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z2-7]{10,}|[a-z2-7]{16,})={0,6}(?![A-Za-z0-9])")
_HEX = re.compile(
    r"(?<![0-9A-Za-z])(?:0x)?[0-9A-Fa-f]{2}(?:(?:[\s:,;-]{0,2}(?:0x|\\x)?)[0-9A-Fa-f]{2}){4,}(?![0-9A-Za-z])"
)
_BINARY = re.compile(r"(?<![0-9])[01]{8}(?:[\s,]{0,2}[01]{8}){4,}(?![0-9])")
_CODES = re.compile(
    r"(?<![0-9])(?:1[01][0-9]|12[0-6]|[3-9][0-9])(?:[\s,;]{1,2}(?:1[01][0-9]|12[0-6]|[3-9][0-9])){7,}(?![0-9])"
)
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_QUOTED = re.compile(r"=\r?\n|(?:=[0-9A-F]{2})+")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,20});?")
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|([nrt/\"'\\]))")
_UNREADABLE = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{160,}")


def _readable(data: bytes) -> str | None:
    """The text in some bytes, or nothing where they are none."""
    if len(data) < 4:
        return None
    if data[:2] == b"\x1f\x8b" or data[:1] == b"\x78":
        with contextlib.suppress(zlib.error):  # a text may begin with the same byte
            data = zlib.decompressobj(wbits=47).decompress(data, GROWTH)
    if data.count(0) * 3 >= len(data):
        for encoding in ("utf-16-le", "utf-16-be"):
            text = data.decode(encoding, "replace")
            if text.isascii() and _printable(text):
                return text
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # Latin-1 reads anything: only what is nearly all ASCII is taken for it.
        if sum(byte < 0x80 for byte in data) < len(data) * 0.85:
            return None
        text = data.decode("latin-1")
    return text if _printable(text) else None


def _printable(text: str) -> bool:
    good = sum(char.isprintable() or char in "\t\r\n" for char in text)
    return bool(text) and good >= len(text) * 0.95


def _base64(match: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    for part in re.finditer(r"[^\n]+", match.group()) if "\n" in match.group() else ():
        yield from _one_base64(match.start() + part.start(), part.group().strip())
    yield from _one_base64(match.start(), match.group())


def _one_base64(start: int, found: str) -> Iterator[tuple[int, int, str]]:
    # A path before it joins what is encoded: what follows a slash is tried alone.
    for cut in sorted({0, *(match.end() for match in re.finditer("[/-]", found[:200]))})[:6]:
        text = re.sub(r"[\s=]", "", found[cut:]).translate({45: "+", 95: "/"})
        if len(text) < 8 or len(text) % 4 == 1 or text.isdigit():
            continue
        decoded = _readable(base64.b64decode(text + "=" * (-len(text) % 4)))
        if decoded is not None:
            yield start + cut, start + len(found), decoded
            return


def _base32(match: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    text = match.group().rstrip("=").upper()
    try:
        decoded = _readable(base64.b32decode(text + "=" * (-len(text) % 8)))
    except binascii.Error:
        return
    if decoded is not None:
        yield match.start(), match.end(), decoded


def _hex(match: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    digits = re.sub(r"0x|[^0-9A-Fa-f]", "", match.group())
    decoded = _readable(bytes.fromhex(digits)) if len(digits) % 2 == 0 else None
    if decoded is not None:
        yield match.start(), match.end(), decoded


def _binary(match: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    bits = re.sub("[^01]", "", match.group())
    decoded = _readable(bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)))
    if decoded is not None:
        yield match.start(), match.end(), decoded


def _codes(match: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    yield match.start(), match.end(), "".join(chr(int(code)) for code in re.findall("[0-9]+", match.group()))


def _escape(match: re.Match[str]) -> str:
    if match[4]:
        return {"n": "\n", "r": "\n", "t": "\t"}.get(match[4], match[4])
    code = int(match[1] or match[2] or match[3], 16)
    return chr(code) if code < 0x110000 else ""


def _changes(text: str) -> Iterator[tuple[int, int, str]]:
    # The surest first: where two readings overlap at one place, sorted() would take the shorter.
    if "%" in text:
        for match in _PERCENT.finditer(text):
            data = unquote_to_bytes(match.group())
            yield match.start(), match.end(), data.decode("utf-8", "replace")
    if "&" in text:
        for match in _ENTITY.finditer(text):
            if (decoded := html.unescape(match.group())) != match.group():
                yield match.start(), match.end(), decoded
    if "\\" in text:
        for match in _ESCAPE.finditer(text):
            yield match.start(), match.end(), _escape(match)
    if "=" in text and re.search(r"=[0-9A-F]{2}|=\r?\n", text):
        for match in _QUOTED.finditer(text):
            data = bytes.fromhex(re.sub(r"[=\r\n]", "", match.group()))
            decoded = data.decode("utf-8", "replace")
            yield match.start(), match.end(), decoded


_BLOCKS = (
    (_BASE64, _base64),
    (_BASE32, _base32),
    (_HEX, _hex),
    (_BINARY, _binary),
    (_CODES, _codes),
)


def _readings(text: str) -> Iterator[Iterator[tuple[int, int, str]]]:
    """Changes by each way of reading: one text may be read in several."""
    yield _changes(text)
    for pattern, read in _BLOCKS:
        yield (change for match in pattern.finditer(text) for change in read(match))


def layers(view: View) -> Iterator[View]:
    """What is under the encodings of a text, layer by layer. At most ``DEPTH`` of them.

    Raises:
        OverflowError: More would come out than ``GROWTH`` characters, or more layers than ``DEPTH``.
    """
    level = [view]
    seen = {view.text}
    size = 0
    for depth in range(DEPTH + 1):
        deeper: list[View] = []
        for each in level:
            for changes in _readings(each.text):
                under = substitute(each, changes)
                if under is None or under.text in seen:
                    continue
                seen.add(under.text)
                size += len(under.text)
                if depth == DEPTH:
                    raise OverflowError("more encodings lie in each other than are read")
                if size > GROWTH + 8 * len(view.text):
                    raise OverflowError("what lies under the encodings is too long")
                deeper.append(under)
        yield from deeper
        level = deeper
        if not level:
            return


def unreadable(text: str) -> Iterator[tuple[int, int]]:
    """Long encoded blocks that hold no text: files, images, what is encrypted."""
    for match in _UNREADABLE.finditer(text):
        block = match.group()
        mixed = all(re.search(kind, block) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
        if mixed and not any(True for _ in _one_base64(0, block)):
            yield match.start(), match.end()
