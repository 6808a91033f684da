"""``freehold evidence``: the evidence pack for an auditor, and the check of its signature."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from freehold.cli.console import ClientArgument, DebugOption, JsonOption, as_json, errors, out


class _WriteFirst(TyperGroup):
    """``freehold evidence acme`` is ``freehold evidence write acme``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["write", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WriteFirst,
    help="Evidence for an auditor: a signed folder with a page, a PDF and data. `freehold evidence acme` writes it.",
    no_args_is_help=True,
)


@app.command()
def write(
    client: ClientArgument,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="The new folder; inventory/CLIENT/evidence/<time> when left out.",
            show_default=False,
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no node: write what the client's files tell.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a dated folder: what runs and why, who may reach it, what can leave, what was proven, and what is missing.

    index.html opens without a network and prints well; evidence.pdf shows the same;
    evidence.json and the other files are for machines. What the client states of
    purpose, risk and oversight comes from `governance` in the stack file. The node is
    asked for the state of containers and GPUs, and nothing is changed; what it does not
    answer is listed as missing. The folder is signed, readable by its owner alone, and
    ignored by git: it holds names and mail addresses, and no secret.

    It is evidence, and not legal advice.

    Example: freehold evidence acme
    """
    from freehold.run.context import Client
    from freehold.run.evidence.write import evidence

    with errors(debug=debug, as_json_lines=json):
        written = evidence(Client.open(client), folder, offline=offline)
        if json:
            as_json(written.as_dict())
            return
        missing = len(written.pack.gaps)
        out.print(f"Evidence of {written.pack.client}: {written.folder}", highlight=False, markup=False)
        out.print("  index.html, evidence.pdf, evidence.json", highlight=False)
        out.print(f"  signed with the key {written.pack.fingerprint}", highlight=False)
        for gap in written.pack.gaps:
            out.print(f"  missing: {gap.what} -> {gap.supply}", highlight=False, markup=False)
        if missing:
            out.print(
                f"{missing} things are missing; the first table of the page lists them.", highlight=False
            )


@app.command()
def verify(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="A folder of `freehold evidence` or `freehold audit export`."),
    ],
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="The client's public key (a PEM file), or its fingerprint: what you keep from the first time on.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check that a signed folder is what was signed: nothing changed, nothing missing, nothing added.

    Without --key, only that nothing changed since somebody signed it is known, not who.
    The client's own key lies at inventory/CLIENT/signing-key.pem. Needs no secret.
    Ends with 1 when something differs.

    Example: freehold evidence verify ./2026-11-22T101500Z --key inventory/acme/signing-key.pem
    """
    from freehold.signing import verify_manifest

    with errors(debug=debug, as_json_lines=json):
        trusted = Path(key).read_bytes() if key and Path(key).is_file() else key
        verified = verify_manifest(folder, trusted)
        about = _about(folder)
        if json:
            as_json(
                {
                    **about,
                    "files": verified.files,
                    "signing_key": verified.fingerprint,
                    "key_known": verified.known,
                }
            )
            return
        if about:
            out.print(f"{about['what']} of {about['client']}, made {about['made']}", highlight=False)
        out.print(
            f"{verified.files} files are what was signed with the key {verified.fingerprint}.",
            highlight=False,
            style="green",
        )
        if not verified.known:
            out.print(
                "Whose key that is, this alone does not say: compare it with the client's, or give --key.",
                highlight=False,
                style="yellow",
            )


def _about(folder: Path) -> dict[str, str]:
    """What a signed folder is, of which client and from when: one of last year is signed as well as one of today."""
    for name, what in (("evidence.json", "Evidence"), ("manifest.json", "Traces")):
        try:
            told = json_module.loads((folder / name).read_text(encoding="utf-8"))
            return {"what": what, "client": str(told["client"]), "made": str(told["made"])}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}
