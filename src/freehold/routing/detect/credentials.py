"""Passwords, keys and tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .categories import Hit

_TOKENS = re.compile(
    r"-----BEGIN (?:[A-Z0-9 ]{1,24} )?PRIVATE KEY(?: BLOCK)?-----"
    r"|(?<![A-Za-z0-9])(?:"
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|gl(?:pat|dt|rt|cbt)-[A-Za-z0-9_\-]{18,}"
    r"|sk-(?:ant-|proj-|svcacct-|or-)?[A-Za-z0-9_\-]{18,}|pk_live_[A-Za-z0-9]{16,}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}|xox[abeoprs]-[A-Za-z0-9\-]{10,}"
    r"|AIza[A-Za-z0-9_\-]{30,}|ya29\.[A-Za-z0-9_\-]{20,}|SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}|npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_\-]{40,}"
    r"|hf_[A-Za-z0-9]{30,}|dop_v1_[a-f0-9]{40,}|pplx-[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{30,}|AGE-SECRET-KEY-1[A-Z0-9]{40,}|hvs\.[A-Za-z0-9_\-]{20,}"
    r"|eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]{10,}|PVEAPIToken=[^\s\"']{10,}"
    r")"
)
"""Forms that their issuers document: AWS, GitHub, GitLab, OpenAI, Anthropic, Stripe, Slack, Google, SendGrid, npm, PyPI,
Hugging Face, DigitalOcean, Perplexity, Groq, age, Vault, JSON Web Tokens (RFC 7519), Proxmox VE; PEM (RFC 7468)."""

_IN_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.\-]{1,20}://[^\s/:@\"'<>]{1,64}:([^\s/@\"'<>]{3,128})@")

_WORDS = (
    r"passwor[dt]\w*|passwd|passphrase|pwd|kennwor[dt]\w*|zugangsdaten|zugangscode|login-?daten|mot de passe|mdp|wachtwoord\w*|contrasena|clave de acceso|parola d'ordine|haslo|hasla"
    r"|api[\-_ ]?(?:key|schlussel|secret|token)\w*|secret[\-_ ]?(?:key|access[\-_ ]?key)?|client[\-_ ]?secret|access[\-_ ]?(?:key|token)|auth[\-_ ]?token|private[\-_ ]?key|bearer"
    r"|(?<![a-z])(?:pin|tan|puk|otp|cvv|cvc)(?:[\-_ ]?(?:code|nummer|number|nr))?(?![a-z])"
)
_VALUE = r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`<>,;]{4,200})"
_ANNOUNCED = re.compile(
    rf"(?:{_WORDS})(?:[ \t](?:von|fur|for|of|pour|de|du|voor|per|do|zum|zur|to|my|mein|meine|der|des|the)[ \t][^\n:=]{{1,40}}?)?"
    rf"[\"'`*)]{{0,3}}[ \t]{{0,3}}(?P<sign>:=|[:=]>?|=>|->|\b(?:lautet|ist|is|est|es|e|to)\b(?:[ \t]?[:=])?)\s{{0,3}}{_VALUE}"
)
_FOLLOWED = re.compile(rf"(?:{_WORDS})[ \t](?P<sign>){_VALUE}")
_PLACEHOLDER = re.compile(
    r"(?:[x*.#_\-]+|\$\{?.*|\{.*|%.*|<.*|\[.*|none|null|true|false|str|string|int|bool|optional.*|required.*|secretstr.*|your.*|dein.*|ihr.*|os\..*|env.*|process\..*|self\..*|settings\..*|config\..*|getpass.*|get_.*|input.*"
    r"|changeme|example.*|placeholder|redacted|hidden|todo|.*\(.*|.*\)|https?:.*|/.*)"
)


def _secretive(value: str, quoted: bool, sign: str) -> bool:
    """Whether a value looks like one that somebody chose or a machine made."""
    value = value.rstrip(".)!?:") if not quoted else value
    if len(value) < 4 or _PLACEHOLDER.fullmatch(value.lower()):
        return False
    kinds = sum(bool(re.search(pattern, value)) for pattern in ("[a-z]", "[A-Z]", "[0-9]", r"[^A-Za-z0-9]"))
    if sign in {":", "=", ">"}:
        digits = bool(re.search("[0-9]", value))
        return (
            quoted
            or digits
            or (
                kinds >= 2
                and len(value) >= 6
                and not re.fullmatch(r"[A-Z]?[a-z]+|[a-z_.]+|[A-Za-z]+-[A-Za-z]+", value)
            )
        )
    return bool(re.search("[0-9]", value)) and (kinds >= 2 or (value.isdigit() and len(value) <= 8))


def find_credentials(cased: str) -> Iterator[Hit]:
    """Credentials in a folded text with its capitals."""
    for match in _TOKENS.finditer(cased):
        yield Hit(match.start(), match.end(), "credential", "token", 0.95)
    if "://" in cased:
        for match in _IN_ADDRESS.finditer(cased):
            if not _PLACEHOLDER.fullmatch(match[1].lower()):
                yield Hit(match.start(1), match.end(1), "credential", "password-in-address", 0.9)
    text = cased.lower()
    for match in (*_ANNOUNCED.finditer(text), *_FOLLOWED.finditer(text)):
        value = cased[match.start("value") : match.end("value")]
        if _secretive(value, bool(match["quote"]), match["sign"].rstrip()[-1:]):
            yield Hit(match.start("value"), match.end("value"), "credential", "announced", 0.8)
