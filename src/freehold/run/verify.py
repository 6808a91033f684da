"""``freehold verify``: prove every host as it is now; nothing is changed."""

from __future__ import annotations

import time

from freehold.errors import BadInputError
from freehold.run import gpus, proof
from freehold.run.context import Client
from freehold.run.folder import RunFolder
from freehold.run.stages import Run, Sink
from freehold.run.summary import Summary, summarise
from freehold.secrets import SSH_KEY


def verify(client: Client, sink: Sink, *, offline: bool = False, verbosity: int = 0) -> Summary:
    """Prove the client's hosts; with ``offline`` also that no way leads out of them.

    Raises:
        BadInputError: The client was never brought up from here.
        ProofError: A check failed.
        FreeholdError: A node does not say which GPUs it has.
    """
    began = time.monotonic()
    if not client.secrets.has(SSH_KEY):
        raise BadInputError(
            f"{client.stack.client} was never brought up with these secrets",
            where=str(client.secrets.file),
            remedy=f"Run: freehold up {client.stack.client}",
        )
    gpus.look(client)
    run = Run(client, RunFolder(client.directory, "verify"), sink, verbosity)
    return summarise(run, proof.prove(run, offline=offline), seconds=time.monotonic() - began, changing=False)
