"""One client, opened: its stack, layout, secrets, API session and SSH access, each made when first needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from freehold import ssh
from freehold.authority import ROOT, Scope, Subject, of_gateway, of_service, root_certificate
from freehold.catalog import services as catalog
from freehold.catalog import versions
from freehold.errors import BadInputError
from freehold.gpus.found import Found
from freehold.gpus.resolve import resolve
from freehold.layout.compute import of_stack
from freehold.layout.network import PRIVATE
from freehold.layout.routing import key_name
from freehold.layout.types import Layout
from freehold.proxmox.client import PveClient, Token
from freehold.run import route_names
from freehold.schema.load import LoadedStack, load_stack
from freehold.schema.stack import Stack
from freehold.secrets import FINGERPRINT_KEY, GIVEN, ISSUED, SSH_KEY, Secrets
from freehold.vault import write_private
from freehold.webauth import bcrypt_hash

TOKEN_SECRET = "proxmox.token"  # noqa: S105 - the name of a secret
SCRAPE_SECRET = "prometheus.scrape_password"  # noqa: S105 - the name of a secret


class NoTokenError(BadInputError):
    """The client has no API token yet."""


@dataclass
class Client:
    """One client and what belongs to it."""

    loaded: LoadedStack
    only: str | None = None
    gpus: Mapping[str, Found] | None = None
    """The GPUs by node, once the nodes were asked (``run.gpus.look``)."""
    _secrets: Secrets | None = field(default=None, repr=False)

    @classmethod
    def open(cls, target: str | Path, only: str | None = None) -> Client:
        """Load a client by its name or the path of its stack file.

        Raises:
            StackError: The stack file is wrong.
        """
        return cls(load_stack(target), only)

    @property
    def stack(self) -> Stack:
        """The client's stack."""
        return self.loaded.stack

    @property
    def directory(self) -> Path:
        """The client's folder."""
        return self.loaded.directory

    @cached_property
    def layout(self) -> Layout:
        """What the stack becomes (with ``--only``: the part that was asked for).

        Raises:
            LayoutError: The stack asks for what cannot be.
        """
        return self._laid_out(self.only)

    @cached_property
    def whole_layout(self) -> Layout:
        """The layout of all services, whatever ``--only`` says."""
        return self._laid_out(None) if self.only else self.layout

    def _laid_out(self, only: str | None) -> Layout:
        return resolve(of_stack(self.loaded, only), self.stack, self.gpus or {})

    def know_gpus(self, found: Mapping[str, Found]) -> None:
        """Take in which GPUs the nodes have: layouts name their device nodes from now on."""
        self.gpus = found
        self.lay_out_again()

    def lay_out_again(self) -> None:
        """Compute the layouts anew when they are next asked for: files of the client's folder have changed."""
        for name in ("layout", "whole_layout"):
            self.__dict__.pop(name, None)

    @cached_property
    def secrets(self) -> Secrets:
        """The client's secrets, opened.

        Raises:
            SecretsKeyError: The key does not fit, or there is none.
        """
        return Secrets.open(self.directory, self.stack.client)

    @property
    def scrape_hash(self) -> str | None:
        """Hash of the password with which the monitoring service reads figures of hosts; none without such a service."""
        return bcrypt_hash(self.secrets.get(SCRAPE_SECRET)) if self.layout.monitor else None

    def ensure_secrets(self) -> list[str]:
        """Make the secrets that the layout's services want and do not have, and certificates that no longer fit; their names.

        The root of the client's authority is written to :attr:`authority_file`.
        """
        made = self.secrets.ensure(self.secret_kinds())
        made += self.secrets.certify(self._scope(), self._subjects())
        self._keep_authority()
        route_names.deliver(self)
        return made

    def rotate_secret(self, name: str) -> None:
        """Make one secret anew; the services get it with the next run. A new authority makes all certificates anew.

        Raises:
            BadInputError: Freehold does not make a secret of this name, or the client has none yet.
        """
        kinds = self.secret_kinds() | {ROOT: catalog.Secret(type="authority")}
        if name not in kinds:
            raise BadInputError(
                f"No service or user has a secret {name}",
                remedy=f"Names: freehold secrets show {self.stack.client}",
            )
        if kinds[name].type == GIVEN:
            raise BadInputError(
                f"Freehold does not make {name}: it comes from elsewhere",
                remedy=f"Hand in the new one: freehold secrets set {self.stack.client} {name}",
            )
        if kinds[name].type in ISSUED:
            self.secrets.get(name)
            self.secrets.certify(self._scope(), self._subjects(), anew=name)
            self._keep_authority()
        else:
            self.secrets.rotate(name, kinds[name])

    def check_settable(self, name: str) -> None:
        """Refuse names of secrets that nothing would read, and those that hosts or the node must learn first.

        Raises:
            BadInputError: It is such a name.
        """
        owner, _, key = name.partition(".")
        if name in {SSH_KEY, FINGERPRINT_KEY, TOKEN_SECRET}:
            raise BadInputError(
                f"{name} cannot be set: it belongs to what exists already",
                remedy=f"For the API token: freehold prepare {self.stack.client} --new-token",
            )
        known = {service.name for service in self.whole_layout.services}
        if name == route_names.SECRET:
            raise BadInputError(
                f"{name} cannot be set: it follows the list of names",
                remedy=f"Add names with: freehold route names {self.stack.client} add",
            )
        policy = self.whole_layout.routing
        keys = {key_name(provider) for provider in policy.providers} if policy else set()
        if name.startswith(key_name("")) and name not in keys:
            raise BadInputError(
                f"No cloud provider of this client has the key {name}",
                where=name,
                remedy=f"Keys: {', '.join(sorted(keys)) or 'none, nothing of this stack may leave the building'}.",
            )
        if not key or (owner not in known and name != ROOT and name not in self.secret_kinds()):
            raise BadInputError(
                f"No service or user of this client has a secret {name}",
                where=name,
                remedy=f"A name is SERVICE.SECRET. Services: {', '.join(sorted(known))}.",
            )

    def secret_kinds(self) -> dict[str, catalog.Secret]:
        """What kinds of secrets the client's services and users have, by name."""
        kinds = {
            f"{service.name}.{name}": secret
            for service in self.whole_layout.services
            for name, secret in catalog.load()[service.role].secrets.items()
        }
        # First passwords of the client's users, for applications that cannot ask an identity provider.
        return kinds | {
            f"users.{user.mail}": catalog.Secret(type="password", length=20) for user in self.stack.users
        }

    def _scope(self) -> Scope:
        return Scope(self.stack.client, self.stack.domain, self.stack.network.subnet, PRIVATE)

    def _subjects(self) -> dict[str, Subject]:
        scope = self._scope()
        return {
            f"{service.name}.{name}": (
                of_gateway(scope)
                if secret.type == "authority"
                else of_service(scope, service.name, service.address)
            )
            for service in self.whole_layout.services
            for name, secret in catalog.load()[service.role].secrets.items()
            if secret.type in ISSUED
        }

    def _keep_authority(self) -> None:
        root = root_certificate(self.secrets.get(ROOT))
        if root != self.authority():
            write_private(self.authority_file, root.encode())
            self.authority_file.chmod(0o644)

    def template_at_mirror(self, os: str) -> dict[str, str] | None:
        """``url`` and ``sha256`` of a system's container template at the client's mirror, where it has one there."""
        return versions.template_at_mirror(os, self.directory, self.stack.sources.mirror)

    def secret_values(self) -> dict[str, str]:
        """All secrets by name."""
        return self.secrets.all_values()

    @cached_property
    def api(self) -> PveClient:
        """A session with the client's API token.

        Raises:
            NoTokenError: The token was never made.
        """
        if not self.secrets.has(TOKEN_SECRET):
            raise NoTokenError(
                f"There is no API token for {self.stack.client}",
                where=f"{self.directory / 'secrets.yml'}: {TOKEN_SECRET}",
                remedy=f"Run: freehold prepare {self.stack.client}",
            )
        pve = self.stack.proxmox
        return PveClient(
            pve.endpoint,
            Token(pve.token, self.secrets.get(TOKEN_SECRET)),
            ca_file=self.ca_file,
            fingerprint=pve.fingerprint,
            timeout=pve.timeout,
        )

    @property
    def ca_file(self) -> Path | None:
        """The API's CA certificate, resolved against the client's folder."""
        given = self.stack.proxmox.ca_file
        if given is None:
            return None
        path = given if given.is_absolute() else self.directory / given
        if not path.is_file():
            raise BadInputError(
                f"The CA certificate {path} does not exist",
                where=f"{self.loaded.path}: proxmox.ca_file",
                remedy="Copy /etc/pve/pve-root-ca.pem from the node, or give the certificate's fingerprint instead."
                " For the lab: freehold lab start",
            )
        return path

    @property
    def authority_file(self) -> Path:
        """Root certificate of the client's internal authority; browsers need it."""
        return self.directory / "ca.crt"

    def authority(self) -> str | None:
        """The root certificate (PEM), once it is made."""
        return self.authority_file.read_text(encoding="utf-8") if self.authority_file.is_file() else None

    def ssh(self) -> ssh.SshAccess:
        """SSH configuration, key and pinned host keys, written anew."""
        return ssh.configure(self.whole_layout, self.secrets.get(SSH_KEY))

    def public_key(self) -> str:
        """Freehold's own public key for this client, as one line."""
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_ssh_private_key(self.secrets.get(SSH_KEY).encode(), password=None)
        line = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        return f"{line.decode()} freehold@{self.stack.client}"

    def public_keys(self) -> str:
        """Keys for root at creation: Freehold's and those of the stack file, one per line."""
        return "\n".join([self.public_key(), *self.stack.system.ssh_keys])
