"""What a client may write: the stack file as types.

Every key that is left out has a default that suits a small office. Settings of services are an open mapping here:
layout validates them against ``roles/<name>/meta/argument_specs.yml``.
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

_NAME = r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$"
Name = Annotated[str, Field(pattern=_NAME)]
"""A lower-case DNS label of 2 to 32 characters."""

DomainName = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}$")]

# Values below reach configuration files of SSH, APT and the shell, and the API's lists with commas: what could break out of
# its line there is refused here. Forms: `pve-storage-id`, `pve-poolid` and `pve-bridge-id` of the API schema.
Storage = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$")]
Pool = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}$")]
Bridge = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9:][A-Za-z0-9.:%_-]*$")]
Line = Annotated[str, Field(pattern=r"^[^\r\n]+$")]


def _one_line(path: Path) -> Path:
    if any(character < " " for character in str(path)):
        raise ValueError("must be one line")
    return path


LinePath = Annotated[Path, AfterValidator(_one_line)]


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path, such as /var/lib/freehold-weights")
    return path


NodePath = Annotated[LinePath, AfterValidator(_absolute)]
"""A path on a node, where nothing is relative to anything."""

HttpsAddress = Annotated[str, Field(pattern=r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$")]

Mail = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class Part(BaseModel):
    """A part of the stack file: unknown keys are refused, values are never changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Proxmox(Part):
    """How Freehold reaches the Proxmox VE API."""

    endpoint: Annotated[
        str, Field(pattern=r"^https://[^/\s]+(:\d+)?/?$", examples=["https://pve.acme.internal:8006"])
    ]
    """Address of the API, such as ``https://pve.acme.internal:8006``."""
    fingerprint: Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$")] | None = None
    """SHA-256 fingerprint of the API's certificate, as the Proxmox web interface shows it."""
    ca_file: Path | None = None
    """CA certificate that signed the API's certificate (PEM); relative to the stack file."""
    token: Annotated[str, Field(pattern=r"^[^@!\s]+@[a-z][a-z0-9.-]*![A-Za-z][A-Za-z0-9._-]+$")] = ""
    """Id of the API token, ``freehold@pve!<client>`` when left out; its secret is kept in ``secrets.yml`` under ``proxmox.token``."""
    node: Name = "pve"
    """The node that takes containers which name no other."""
    storage: Storage = "local-lvm"
    """Storage of root disks and volumes."""
    template_storage: Storage = "local"
    """Storage of container templates (content type ``vztmpl``)."""
    pool: Pool | None = None
    """Resource pool that holds the client's containers; ``freehold-<client>`` when left out."""
    root_password_command: str | None = None
    """Command that prints the password of root@pam, for clients who give no SSH to the node. Used for root steps alone."""
    timeout: Annotated[int, Field(ge=5, le=600)] = 30
    """Seconds that one API call may take."""

    @model_validator(mode="after")
    def _one_trust_anchor(self) -> Self:
        if self.fingerprint and self.ca_file:
            raise ValueError("give either fingerprint or ca_file, not both")
        return self


class Gpu(Part):
    """One GPU of a node."""

    pci: Annotated[str, Field(pattern=r"^([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}(\.[0-7])?$")] | None = None
    """PCI address, such as ``0000:01:00.0``."""
    uuid: Annotated[str, Field(pattern=r"^GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")] | None = None
    """UUID as ``nvidia-smi -L`` shows it: it stays with the card when the card changes its slot. Finding it takes SSH to the
    node."""
    card: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] | None = None
    """Model of the GPU by its name in the catalogue, such as ``rtx-4090``: how much memory it has, and what it can compute."""
    vendor: Literal["nvidia", "amd", "intel"] = "nvidia"
    """Maker of the GPU: it decides which device nodes are passed."""
    minor: Annotated[int, Field(ge=0, le=255)] | None = None
    """Number of the device node: the N of ``/dev/nvidiaN``, or of ``/dev/dri/renderDN`` for other vendors. When left out,
    the node is asked; without SSH to it, the position among the node's GPUs of that vendor (counted from 128 for
    ``renderDN``) counts."""
    memory: Annotated[int, Field(gt=0)] | None = None
    """VRAM in MiB; that of the card when left out."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.pci and not self.uuid:
            raise ValueError("give pci or uuid")
        return self


class GpuShare(Part):
    """A part of a GPU, for a host that shares it with another."""

    gpu: str | int
    """The GPU: position in the node's list (0 is the first), PCI address, or UUID."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of its VRAM that the host may take. All shares of a GPU together are at most 1; nothing but the engines themselves
    keeps them to it."""


class Node(Part):
    """One Proxmox VE node."""

    address: Address | None = None
    """Address for SSH to the node; without it, root steps go through a root@pam session."""
    ssh_user: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9._-]*$")] = "root"
    """User for SSH to the node."""
    ssh_port: Annotated[int, Field(ge=1, le=65535)] = 22
    """Port for SSH to the node."""
    ssh_key: LinePath | None = None
    """Private key for SSH to the node; SSH's own configuration and agent when left out."""
    host_key: (
        Annotated[
            str, Field(pattern=r"^(ssh-ed25519|ecdsa-sha2-nistp256|ssh-rsa) [A-Za-z0-9+/=]+( [^\r\n]*)?$")
        ]
        | None
    ) = None
    """The node's SSH host key, pinned: ``ssh-ed25519 AAAA...``."""
    known_hosts: LinePath | None = None
    """File with pinned host keys (``known_hosts``), instead of ``host_key``."""
    cores: Annotated[int, Field(gt=0)] | None = None
    """CPU cores of the node; layout refuses more per container."""
    memory: Annotated[int, Field(gt=0)] | None = None
    """Memory of the node in MiB; layout refuses more in sum, with 2048 MiB left to the node."""
    gpus: tuple[Gpu, ...] = ()
    """GPUs that containers may be given."""
    driver: Literal["managed", "administrator"] | None = None
    """Who installs the NVIDIA driver: Freehold (``managed``, at the version of ``versions.yml``), or the node's
    administrator. Freehold when left out, where the node has NVIDIA GPUs and SSH."""
    weights: NodePath = Path("/var/lib/freehold-weights")
    """Directory of the node for weights of language models; each client has a folder of its own in it."""

    @model_validator(mode="after")
    def _reached(self) -> Self:
        if self.driver == "managed" and not self.address:
            raise ValueError(
                "driver: managed needs address and host_key: Freehold installs the driver over SSH"
            )
        return self


class Network(Part):
    """Where the containers live."""

    subnet: IPv4Network
    """Network of the containers, such as ``10.20.0.0/24``."""
    gateway: IPv4Address | None = None
    """Default gateway; the first address of the subnet when left out."""
    first: IPv4Address | None = None
    """First of the hundred addresses that belong to this client; address 100 of the subnet when left out."""
    bridge: Bridge = "vmbr0"
    """Bridge of the node."""
    vlan: Annotated[int, Field(ge=1, le=4094)] | None = None
    """VLAN tag."""
    dns: tuple[IPv4Address, ...] = ()
    """Name servers; those of the node when left out."""
    admins: tuple[IPv4Network, ...] = ()
    """Networks from which SSH is allowed; the subnet when left out."""
    users: tuple[IPv4Network, ...] = ()
    """Networks from which people reach the gateway; private networks (RFC 1918) when left out."""
    audience: dict[Name, Literal["users", "admins"]] = {}
    """For whom the address of a service at the gateway is, where it differs from what its role says: ``n8n: admins`` leaves
    people its forms and webhooks alone."""
    firewall: bool = True
    """Whether rules for Proxmox VE's own firewall are written around each container, and its interface has the firewall flag. With
    ``false`` neither is written; nftables inside the containers holds all the same."""

    @property
    def first_address(self) -> IPv4Address:
        """First of the hundred addresses that belong to the client."""
        return self.first or self.subnet.network_address + 100


class HostOverride(Part):
    """What a client wants different for one host."""

    node: Name | None = None
    """Node that takes the container."""
    cores: Annotated[int, Field(gt=0, le=512)] | None = None
    """CPU cores."""
    memory: Annotated[int, Field(ge=128)] | None = None
    """Memory in MiB."""
    swap: Annotated[int, Field(ge=0)] | None = None
    """Swap in MiB."""
    os: Literal["debian-12", "debian-13"] | None = None
    """Debian release of a container that is yet to be made, where the role of its service supports it."""
    disk: Annotated[int, Field(ge=2)] | None = None
    """Root disk in GiB; it can grow, never shrink."""
    data: Annotated[int, Field(ge=1)] | None = None
    """Volume for the data of its service in GiB; it can grow, never shrink."""
    storage: Storage | None = None
    """Storage of root disk and volumes."""
    address: IPv4Address | None = None
    """Fixed address inside the subnet."""
    vmid: Annotated[int, Field(ge=100, le=999_999_999)] | None = None
    """Fixed VMID."""
    gpus: tuple[str | int | GpuShare, ...] = ()
    """GPUs of the node passed to this host: positions in the node's list (0 is the first), PCI addresses or UUIDs. A GPU that
    two hosts get is written with its share in each: ``{gpu: 0, share: 0.5}``."""
    mounts: dict[str, Path] = {}
    """Directories of the node bound into the container: path in the container to path on the node (a root step)."""


class VmidRange(Part):
    """The VMIDs that belong to a client."""

    first: Annotated[int, Field(ge=100, le=999_999_900)] = 1000
    """First VMID; a client has one hundred of them."""


class Group(Part):
    """A group of the client's users. Of the limits of several groups, a person has the most generous."""

    name: Name
    """Name of the group."""
    description: str = ""
    """What the group is for."""
    requests_per_minute: Annotated[int, Field(gt=0)] | None = None
    """Requests to language models that each of its people may make in a minute; as many as they like when left out."""
    tokens_per_day: Annotated[int, Field(gt=0)] | None = None
    """Tokens, of questions and answers together, that each of its people may use in a day; no limit when left out."""


class User(Part):
    """A person of the client who uses the applications."""

    name: Annotated[str, Field(min_length=1)]
    """Full name."""
    mail: Mail
    """Mail address; it is the login."""
    groups: tuple[Name, ...] = ()
    """Groups that the user belongs to; each is declared under ``groups``."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    """Language, such as ``de`` or ``en-GB``."""
    admin: bool = False
    """Whether the user administers the applications."""


class Sources(Part):
    """Where downloads come from: upstream, unless a client has a mirror."""

    mirror: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """Base address of the client's own mirror."""
    wheels: tuple[str, ...] = ()
    """More places for Python wheels (pip's ``--find-links``)."""


class Use(Part):
    """What the client does with the stack, which licences are held against."""

    users: Annotated[int, Field(gt=0)] | None = None
    """People who use it; the number of ``users`` when left out."""
    region: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = "EU"
    """Where the client is: a country by its two capital letters (ISO 3166-1 alpha-2), such as ``DE``, or ``EU``."""
    commercial: bool = True
    """Whether it serves a business."""
    customers: bool = False
    """Whether it is offered to others than the client's own people, such as customers of the client."""


class ModelUse(Part):
    """A language model that the client serves."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")] | None = None
    """Name for people and applications; its id when left out."""
    engine: Name | tuple[Name, ...] | None = None
    """The engine that serves it, such as ``vllm-2``, or several that share the work; the only one that can when left out."""
    quantization: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")] | None = None
    """Form of the weights by its name in the catalogue; the best that fits when left out."""
    context: Annotated[int, Field(ge=512)] | None = None
    """Longest conversation in tokens, question and answer together; 16384, or what it can at most, when left out."""
    users: Annotated[int, Field(gt=0)] | None = None
    """Conversations at once, each as long as ``context``; ``use.users`` when left out."""
    kv_cache: Literal["auto", "fp8", "q8_0", "q4_0"] = "auto"
    """Precision of the memory of conversations: 16 bits (``auto``), ``fp8`` (vLLM, SGLang), ``q8_0`` or ``q4_0`` (Ollama)."""
    licence_accepted: bool = False
    """Whether the client has read the licence, where the catalogue does not know it."""
    unsized: bool = False
    """Serve it although the catalogue knows too little of it to say whether it fits."""

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that the client names."""
        return (self.engine,) if isinstance(self.engine, str) else self.engine or ()


PROVIDER_KINDS = ("anthropic", "openai", "mistral", "perplexity", "azure", "openai-compatible")
"""Kinds of cloud providers that the router knows."""


class Provider(Part):
    """A cloud provider of language models. Its key is a secret that the client gives:
    ``freehold secrets set <client> litellm.cloud_<provider>``."""

    kind: Literal["anthropic", "openai", "mistral", "perplexity", "azure", "openai-compatible"] | None = None
    """How it is spoken to; that of its name when left out."""
    endpoint: HttpsAddress | None = None
    """Base address of its API, such as ``https://acme.openai.azure.com``; that of its kind when left out."""
    api_version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.-]+$")] | None = None
    """Version of the API (``azure``)."""
    region: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    """Where it computes, by the client's contract: a country by its two capital letters, or ``EU``; unknown when left out."""
    agreement: Line | None = None
    """The contract that allows its use, for the evidence: such as ``DPA of 2026-03-01, nothing is kept``."""


class CloudModel(Part):
    """A cloud language model that some people may use, for what is not sensitive."""

    provider: Name
    """A provider of ``routing.providers``."""
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$")]
    """Its name at the provider."""
    groups: tuple[Name, ...] = ()
    """Groups whose people may use it; nobody may when left out."""
    local: str | None = None
    """Name of the local language model that answers in its place; ``routing.local`` when left out."""
    input_price: Annotated[float, Field(ge=0)] | None = None
    """Price of a million tokens of questions in US dollars."""
    output_price: Annotated[float, Field(ge=0)] | None = None
    """Price of a million tokens of answers in US dollars."""


class Task(Part):
    """A kind of work, which people choose by its name as they choose a language model."""

    description: str = ""
    """What it is for."""
    local: str | None = None
    """Name of the local language model that does it; ``routing.local`` when left out."""
    cloud: Name | None = None
    """The cloud language model that does it where the policy allows; none when left out."""


class Presidio(Part):
    """Microsoft Presidio as one more detector: names of people and organisations, by language."""

    languages: Annotated[tuple[Annotated[str, Field(pattern=r"^[a-z]{2}$")], ...], Field(min_length=1)]
    """Languages that it reads, by their two letters. Every text is read in each of them."""
    finds: Annotated[tuple[Literal["person", "organisation", "place", "group"], ...], Field(min_length=1)] = (
        "person",
        "organisation",
    )
    """What counts as sensitive of what it finds. Places and groups (nationalities, religions) stand in very many texts."""


class Sensitive(Part):
    """What counts as sensitive, and so never leaves."""

    countries: tuple[Annotated[str, Field(pattern=r"^[A-Z]{2}$")], ...] = ()
    """Countries whose national numbers are looked for; all that are built in when left out."""
    ignore: tuple[Name, ...] = ()
    """Categories that do not count as sensitive."""
    names: bool = True
    """Whether names in the client's own list (``freehold route names``) count as sensitive."""
    presidio: Presidio | None = None
    """Presidio besides the built-in detectors; it is not installed when left out."""


class Routing(Part):
    """Which requests may go to a cloud provider. Local is the default: without this part, everything stays in the building."""

    local: str | None = None
    """Name of the local language model that answers in the place of a cloud one; the first that chats when left out."""
    providers: dict[Name, Provider | None] = {}
    """Cloud providers by name."""
    cloud: dict[Name, CloudModel] = {}
    """Cloud language models by the name under which people choose them."""
    tasks: dict[Name, Task] = {}
    """Kinds of work by the name under which people choose them."""
    sensitive: Sensitive = Sensitive()
    never_leaves: tuple[Literal["attachments", "context", "images"], ...] = (
        "attachments",
        "context",
        "images",
    )
    """What never leaves whatever is in it: files, passages of documents that were found for a question, and images."""
    notice: bool = True
    """Whether an answer that came from elsewhere than what was chosen begins with a line that says so."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        for name, provider in self.providers.items():
            kind = (provider and provider.kind) or name
            if kind not in PROVIDER_KINDS:
                raise ValueError(f'give the kind of the provider "{name}": {", ".join(PROVIDER_KINDS)}')
            if kind in {"azure", "openai-compatible"} and not (provider and provider.endpoint):
                raise ValueError(f'give the endpoint of the provider "{name}"')
        for name, model in self.cloud.items():
            if model.provider not in self.providers:
                raise ValueError(f'the provider "{model.provider}" of "{name}" is not among the providers')
        for name, task in self.tasks.items():
            if name in self.cloud:
                raise ValueError(f'"{name}" is a cloud language model and a task')
            if task.cloud and task.cloud not in self.cloud:
                raise ValueError(
                    f'the cloud language model "{task.cloud}" of the task "{name}" is not in cloud'
                )
        return self


class SsoEndpoints(Part):
    """Addresses of an identity provider, as its ``/.well-known/openid-configuration`` lists them."""

    authorization: HttpsAddress
    """``authorization_endpoint``: where people log in."""
    token: HttpsAddress
    """``token_endpoint``."""
    userinfo: HttpsAddress
    """``userinfo_endpoint``."""
    keys: HttpsAddress
    """``jwks_uri``."""


SsoService = Literal["openwebui", "langfuse", "grafana"]
"""Services that can ask an identity provider."""
Claim = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Name of a claim; Grafana reads it in an expression (JMESPath), where other characters mean something."""


class Sso(Part):
    """The client's identity provider (OpenID Connect): people log in with the account that they have. The secret of each
    application is one that the client gives: ``freehold secrets set <client> openwebui.oidc_client_secret``."""

    provider: Literal["entra", "google", "keycloak", "authentik", "oidc"]
    """Whose it is: Microsoft Entra ID, Google, Keycloak, Authentik, or another one that speaks OpenID Connect (``oidc``)."""
    issuer: HttpsAddress | None = None
    """Its address (``issuer``), such as ``https://login.acme.example/realms/acme``, or
    ``https://login.microsoftonline.com/<tenant>/v2.0``; Google's own when left out for ``google``."""
    issuers: dict[SsoService, HttpsAddress] = {}
    """Issuers of services that have one of their own, as Authentik's applications do."""
    client_ids: dict[SsoService, Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@/-]+$")]]
    """The name by which the provider knows each application that takes part. n8n's free edition cannot."""
    name: Line | None = None
    """What the button for logging in says; the provider's name when left out."""
    domains: tuple[DomainName, ...] = ()
    """Domains of mail addresses that are let in; all when left out. Google, which knows everybody, needs them."""
    groups_claim: Claim | None = None
    """Claim that lists a person's groups. When given, the provider decides who is in which group of the chat."""
    admins: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@/-]*$")], ...] = ()
    """Groups of the provider whose people see the monitoring as its administrators, while no others see it; for Entra their object ids."""
    merge: bool = False
    """Whether whoever the provider says has the mail address of an account of the stack gets that account in the chat. Only
    for providers that let nobody choose that address."""
    endpoints: SsoEndpoints | None = None
    """Addresses for ``oidc``, which has none that are known."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        tenant = (self.issuer or "").removeprefix("https://login.microsoftonline.com/").partition("/")[0]
        if self.provider != "google" and not self.issuer:
            raise ValueError("give the issuer")
        if self.provider == "google" and not self.domains:
            raise ValueError("give the domains: otherwise anybody with an account of Google is let in")
        if self.provider == "entra" and tenant in {"common", "organizations", "consumers"}:
            raise ValueError(
                f'the issuer "{tenant}" lets in people of every company; give that of your tenant'
            )
        if self.provider == "oidc" and "grafana" in self.client_ids and not self.endpoints:
            raise ValueError("give the endpoints: Grafana does not ask the provider for them")
        if self.admins and not self.groups_claim:
            raise ValueError("give the groups_claim that says who the admins are")
        return self


class Audit(Part):
    """The record of what was asked and answered."""

    retention_months: Annotated[int, Field(ge=1, le=120)] = 12
    """Months after which it is removed."""
    when_full: Literal["stop", "pass"] = "stop"
    """What the router does when it can record no more, since the traces take nothing: answer no more, or answer unrecorded."""
    spool_mib: Annotated[int, Field(ge=16, le=65536)] = 512
    """Space in MiB for records that wait for the traces."""
    mask: bool = False
    """Whether what the detectors find is blacked out before it is recorded."""


class Egress(Part):
    """The one way out to the internet."""

    closed: bool = True
    """Whether containers reach nothing outside but through the host ``egress``, which knows a list of names."""
    allow: tuple[DomainName, ...] = ()
    """More names that containers may reach, such as that of a provider of logins."""


class Person(Part):
    """A person who answers for something."""

    name: Line
    """Full name, or that of the office."""
    mail: Mail | None = None
    """Mail address."""


class Done(Part):
    """Something that was done, and where it is written down."""

    day: date
    """Day, such as ``2026-03-01``."""
    where: Line
    """Where it is written down, such as ``list of participants, folder AI, no. 3``."""


class Governance(Part):
    """What the client itself states about the use of the stack, for ``freehold evidence``. Freehold shows it and judges
    nothing; what is left out stands in the evidence as missing."""

    purpose: str = ""
    """What the stack is used for, and what it is not used for."""
    controller: Line | None = None
    """Who is responsible for the processing of personal data: name and address (GDPR Art. 30)."""
    responsible: Person | None = None
    """Who answers for the stack."""
    data_protection_officer: Person | None = None
    """The data protection officer."""
    legal_basis: Line | None = None
    """Why personal data may be processed, such as ``GDPR Art. 6(1)(f), and Art. 9(2)(f) for health data in cases``."""
    people: tuple[Line, ...] = ()
    """Whose personal data is processed, such as ``clients`` and ``employees``."""
    data: tuple[Line, ...] = ()
    """Kinds of personal data, such as ``correspondence`` and ``health data in cases``."""
    risk_class: Literal["minimal", "limited", "high"] | None = None
    """Class of risk by the EU AI Act, as the client has found it: ``high`` for what stands in Annex III, ``limited`` for what
    talks to people (Art. 50), else ``minimal``."""
    risk_reason: str = ""
    """Why it is of that class: which uses of Annex III were looked at."""
    oversight: str = ""
    """How people check the answers before something follows from them."""
    stop: str = ""
    """Who may stop the stack or a language model, and how."""
    users_informed: Done | None = None
    """When the people who use it were told that they use an AI system, and by what."""
    training: Done | None = None
    """When the people who use it last learned what it can and cannot do."""
    impact_assessment: Done | None = None
    """The data protection impact assessment (GDPR Art. 35), or why none is needed."""


class System(Part):
    """The base system of every container."""

    timezone: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")] = "Europe/Berlin"
    """Time zone."""
    locale: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]+$")] = "en_US.UTF-8"
    """Locale."""
    upgrades: bool = True
    """Whether security upgrades are installed unattended."""
    ssh_keys: tuple[Line, ...] = ()
    """Public keys of the administrators who may log in as root, besides Freehold's own."""


class Stack(Part):
    """One client's stack file."""

    plugin: Literal["freehold.stack.stack"] | None = None
    """Lets Ansible's inventory find the file anywhere."""
    client: Name
    """Short name of the client; it is part of tags, the pool and host names."""
    domain: DomainName
    """Domain of the applications: the chat is ``chat.<domain>``."""
    proxmox: Proxmox
    network: Network
    nodes: dict[Name, Node] = {}
    """Nodes by name. The node of ``proxmox.node`` need not be listed unless it has GPUs or SSH."""
    vmids: VmidRange = VmidRange()
    exclusive: bool = True
    """Whether VMIDs and addresses belong to this client alone. Stacks that say no may share them with each other: they take
    turns, as tests do."""
    services: dict[Name, dict[str, Any] | None] = {}
    """Services by name, each with its settings (or nothing). What they need comes along. A second engine of a kind is
    ``vllm-2``."""
    hosts: dict[Name, HostOverride] = {}
    """Overrides by host name; a host bears the name of its service."""
    models: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")], ModelUse | None] = {}
    """Language models by their id in the catalogue (``freehold models list``), or in the client's own ``models.yml``."""
    gpu_layout: Literal["one-big", "one-each", "ollama-only", "cpu"] | None = None
    """Which engine gets which GPUs, for hosts that name none: ``one-big`` gives all to the first engine, ``one-each`` one to
    each engine, ``ollama-only`` all to Ollama, and ``cpu`` lets all engines compute without."""
    review_months: Annotated[int, Field(ge=1, le=60)] = 6
    """Months after which Freehold reminds of a language model that is served: there may be a better one."""
    use: Use = Use()
    routing: Routing = Routing()
    audit: Audit = Audit()
    egress: Egress = Egress()
    sso: Sso | None = None
    governance: Governance = Governance()
    groups: tuple[Group, ...] = ()
    users: tuple[User, ...] = ()
    sources: Sources = Sources()
    system: System = System()

    @model_validator(mode="before")
    @classmethod
    def _own_token(cls, data: Any) -> Any:
        """A token of its own for each client, so that one client's token opens nothing of another's."""
        if not isinstance(data, dict) or not isinstance(data.get("proxmox"), dict):
            return data
        if not re.fullmatch(_NAME, str(data.get("client"))):
            return data
        return {**data, "proxmox": {"token": f"freehold@pve!{data.get('client')}", **data["proxmox"]}}

    @property
    def pool(self) -> str:
        """The resource pool of the client's containers."""
        return self.proxmox.pool or f"freehold-{self.client}"
