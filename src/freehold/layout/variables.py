"""Role variables from the expressions in ``meta/service.yml``.

An expression is Jinja without braces, such as ``services.postgres.address``. It sees these names:

``client, domain, users, groups, sources, system``
    of the stack; each user carries ``password``, the lookup of a first password.
``admins``
    the networks of administrators.
``services``
    the services that this one needs or wants and that are present, and itself, by name:
    ``services.postgres.address``, ``.host``, ``.ports.sql``, ``.settings``.
``present``
    names of all services that are present.
``host``
    the own host: ``name, address, cores, memory, gpus``.
``settings``
    the settings of this service, with the defaults of its role.
``serving``
    the language models of the stack that this engine serves: see ``ServedModel`` in ``layout/types.py``.
``weights``
    the weights that engines of the same node read: ``id, quantization, repository, revision, path, licence, files``.
``routes, databases, engines``
    what all services together want of the gateway, of Postgres, of users of language models. Each engine carries
    ``models``: what it serves, a list of ``name``, ``served`` (its name at the engine) and ``kind`` (``chat`` or ``embedding``).
``routed``
    the engines as the router gets them: with the names of ``aliases.yml`` at the engines where they lead.
``routing, choices, context_mark``
    of the stack, what may go to the cloud; what people choose from in a chat (``layout/choices.py``); and the mark of what is
    added to a question from files and knowledge (``routing/markers.py``).
``policy``
    what the router is told of all that (``layout/routing.py``); empty where nothing may leave and nobody has a limit.
``audit, provenance``
    the record of requests, with ``retention_days``; and what is known of each language model by engine and name at the
    engine (``digest, revision``).
``scrapes, alerts, hosts, nodes``
    what the monitoring asks and watches: metrics and alerts of the services, all hosts, and the nodes that are reached
    over SSH (``name, address``; nodes with ``gpus``, their number of NVIDIA GPUs).
``sso``
    the client's identity provider as this service is told of it (``layout/sso.py``); empty where it takes no part.
``certificate("certificate.pem")``
    the certificates of a file in the client's folder (PEM).
``egress, leaving``
    the one way out (``layout/egress.py``): ``proxy``, its address; ``way``, the same where this service asks anything outside
    while it runs; ``direct``, what is asked past it; ``host``. All empty where there is none. And what each host may ask it for.
``secret("postgres.superuser")``
    the Ansible lookup of a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from freehold.catalog.services import Bucket, ServiceMeta, role_of
from freehold.errors import FreeholdError

if TYPE_CHECKING:
    from jinja2.environment import Environment, TemplateExpression

ENGINE_KEY = "api_key"
"""The secret of an engine that its users must show, where it has one of this name."""

_LOOKUP = re.compile(r"\{\{ lookup\('freehold\.stack\.secret', '([^'\\\s]+)'\) \}\}")


def lookup(secret: str) -> str:
    """The Ansible lookup of a secret, such as ``postgres.superuser``."""
    # A mail address is part of a name here, and people may be called O'Brien. Ansible takes a backslash before a quote for
    # itself, so such characters are written as in an address of the web.
    return f"{{{{ lookup('freehold.stack.secret', '{quote(secret, safe='@+')}') }}}}"


def is_plain(text: str) -> bool:
    """Whether a text, lookups of secrets apart, holds nothing that Ansible would evaluate.

    A client's text could be a template that does anything; a lookup beside it must not open the door to the rest.
    """
    rest = _LOOKUP.sub("\0", text)
    return not text.startswith("#jinja2:") and not any(mark in rest for mark in ("{{", "{%", "{#", "{\0"))


def looked_up(value: Any) -> set[str]:
    """Names of the secrets that a value looks up."""
    if isinstance(value, str):
        return {unquote(quoted) for quoted in _LOOKUP.findall(value)}
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {name for part in parts for name in looked_up(part)}


def secret_function(catalog: Mapping[str, ServiceMeta], present: Iterable[str]) -> Callable[[str], str]:
    """The function ``secret`` of expressions: it knows the secrets of the services that are present."""
    known = {
        f"{name}.{secret}" for name in present for secret in catalog[role_of(name, catalog) or name].secrets
    }

    def secret(name: str) -> str:
        if name not in known:
            raise FreeholdError(f'there is no secret "{name}" (known: {", ".join(sorted(known)) or "none"})')
        return lookup(name)

    return secret


def evaluate(meta: ServiceMeta, names: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a service's expressions by short key, as plain data.

    Raises:
        FreeholdError: An expression is wrong, names what does not exist, or gives no plain data; it names the role.
    """
    return {
        key: _value(meta, f"variables.{key}", expression, names) for key, expression in meta.variables.items()
    }


def models(
    meta: ServiceMeta, settings: Mapping[str, Any], serving: Iterable[Mapping[str, Any]] = ()
) -> list[dict[str, str]]:
    """The language models that an engine serves with these settings, by ``name``, ``served`` and ``kind``.

    Raises:
        FreeholdError: The expression is wrong; it names the role.
    """
    names = {"settings": settings, "serving": list(serving)}
    found = _value(meta, "models", meta.models or "[]", names)
    return [
        {
            "name": model["name"],
            "served": model.get("served", model["name"]),
            "kind": model.get("kind", "chat"),
        }
        for model in found
    ]


def listed(meta: ServiceMeta, key: str, expression: str | None, names: Mapping[str, Any]) -> list[str]:
    """The texts that an expression lists, each once and without empty ones; none where there is no expression.

    Raises:
        FreeholdError: The expression is wrong; it names the role.
    """
    found = _value(meta, key, expression, names) if expression else []
    return list(dict.fromkeys(str(one) for one in found if one))


def days(meta: ServiceMeta, bucket: Bucket, settings: Mapping[str, Any], retention: int) -> int | None:
    """Days after which the objects of a bucket are removed with these settings, and with this retention of the record.

    Raises:
        FreeholdError: The expression is wrong, or gives no number of days; it names the role.
    """
    if not isinstance(bucket.expire_days, str):
        return bucket.expire_days
    names = {"settings": settings, "audit": {"retention_days": retention}}
    found = _value(meta, f"buckets.{bucket.name}", bucket.expire_days, names)
    return int(found) if found else None


def _value(meta: ServiceMeta, key: str, expression: str, names: Mapping[str, Any]) -> Any:
    try:
        return _plain(_compiled(expression)(**names))
    # Jinja hands on whatever an expression raises.
    except Exception as error:
        raise FreeholdError(
            f'the variable "{key.removeprefix("variables.")}" of the service "{meta.name}" cannot be computed',
            doing="computing the variables of roles",
            where=f"roles/{meta.name}/meta/service.yml: {key}: {expression}",
            answer=str(error) or type(error).__name__,
            remedy="Correct the expression; layout/variables.py says which names it may use.",
        ) from error


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=_refuse))


def _refuse(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    str(value)  # an undefined name says here which it is
    raise TypeError(f"a {type(value).__name__} is no plain value")


@cache
def _compiled(expression: str) -> TemplateExpression:
    return _environment().compile_expression(expression, undefined_to_none=False)


@cache
def _environment() -> Environment:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined)
