"""Section: who has access: people, groups, administrators, applications. Names of keys alone, never a key."""

from __future__ import annotations

import base64
import binascii
import hashlib

from freehold.run.evidence import articles as law
from freehold.run.evidence.blocks import Facts, Gap, Grid, Section, Text
from freehold.run.evidence.known import Known
from freehold.run.evidence.tables import as_csv, listed


def section(known: Known) -> Section:
    """The section."""
    stack = known.stack
    people = [
        {
            "name": user.name,
            "mail": user.mail,
            "groups": list(user.groups),
            "administrator": user.admin,
        }
        for user in stack.users
    ]
    groups = [group.model_dump(mode="json") for group in stack.groups]
    router = next((service for service in known.layout.services if service.role == "litellm"), None)
    applications = [
        str(each["name"]) for each in (router.variables["litellm_applications"] if router else ())
    ]
    keys = [_ssh_key(line) for line in stack.system.ssh_keys]
    sso = _sso(known)
    facts = (
        ("Logins", sso or "accounts of each application, with a password of their own"),
        ("Administrators of the applications", listed([user.name for user in stack.users if user.admin])),
        ("Accounts that Freehold makes to administer applications", f"admin@{stack.domain}"),
        ("Keys of the router, one for each application", listed(applications) or "none"),
        ("Networks of people", listed(stack.network.users) or "private networks (RFC 1918)"),
        ("Networks of administrators", listed(known.layout.admins)),
        ("SSH keys of administrators, besides Freehold's own", listed(keys) or "none"),
        ("Token for Proxmox VE", stack.proxmox.token),
    )
    gaps = []
    if sso:
        gaps.append(
            Gap(
                "Whom the identity provider lets in, and with which second factor, is not collected.",
                (law.SECURITY,),
                "the provider's own list of people and rules",
            )
        )
    if not people:
        gaps.append(Gap("No person is listed.", (law.SECURITY,), "`users` in the stack file"))
    if people and not any(person["administrator"] for person in people):
        gaps.append(
            Gap(
                "No person is named as administrator of the applications; only the shared account is.",
                (law.SECURITY,),
                "`users[].admin: true` in the stack file",
            )
        )
    return Section(
        "access",
        "Access",
        (law.SECURITY, law.BY_DESIGN),
        (
            Text(
                "As the stack file has it. Accounts that somebody made by hand in an application, and workflows and documents "
                "that people share with each other, are not seen here."
            ),
            Facts(facts),
            Grid(
                ("Person", "Login", "Groups", "Administrator"),
                tuple(
                    (
                        str(person["name"]),
                        str(person["mail"]),
                        listed(user.groups),
                        "yes" if person["administrator"] else "",
                    )
                    for person, user in zip(people, stack.users, strict=True)
                ),
                (28, 36, 20, 16),
                title="People",
            ),
            Grid(
                ("Group", "For", "Requests per minute", "Tokens per day"),
                tuple(
                    (
                        group.name,
                        group.description,
                        str(group.requests_per_minute or "no limit"),
                        str(group.tokens_per_day or "no limit"),
                    )
                    for group in stack.groups
                ),
                (20, 44, 18, 18),
                title="Groups",
            ),
        ),
        {
            "people": people,
            "groups": groups,
            "applications_with_a_key": applications,
            "single_sign_on": sso,
            "admin_networks": [str(network) for network in known.layout.admins],
            "user_networks": [str(network) for network in stack.network.users],
            "ssh_keys": keys,
            "api_token": stack.proxmox.token,
        },
        tuple(gaps),
        {
            "access.csv": as_csv(
                ("name", "login", "groups", "administrator"),
                [
                    [user.name, user.mail, listed(user.groups), "yes" if user.admin else "no"]
                    for user in stack.users
                ],
            )
        },
    )


def _sso(known: Known) -> str:
    """Who checks logins, where a provider does."""
    sso = known.stack.sso
    if sso is None:
        return ""
    issuers = listed(sorted({*filter(None, (sso.issuer, *sso.issuers.values()))})) or "its own address"
    return (
        f"single sign-on (OpenID Connect) by {sso.provider} at {issuers} for {listed(sorted(sso.client_ids))}"
    )


def _ssh_key(line: str) -> str:
    """Fingerprint and comment of a public key, as ``ssh-keygen -l`` shows them."""
    parts = line.split(None, 2)
    try:
        digest = hashlib.sha256(base64.b64decode(parts[1], validate=True)).digest()
    except (IndexError, binascii.Error):
        return "not an SSH key"
    comment = parts[2] if len(parts) > 2 else "no comment"
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')} ({comment})"
