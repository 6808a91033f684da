"""Module behind the ``n8n_content`` action: accounts, credentials and workflows of n8n, in one run over its API."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import accounts, api, kept, pending

DOCUMENTATION = r"""
module: n8n_content
short_description: Makes accounts, credentials and workflows of n8n
description:
  - Runs on the host of n8n, against the API of its pages, as the owner of the instance.
  - A new account gets its first password; one that is there is left alone. Accounts that this module made and that are
    not wanted any more are removed, and what belonged to them becomes the owner's. What others made is left alone.
  - A credential is known by its name. When its content changes, it is given the new one.
  - A workflow is made and activated once. When it comes with new content later, it is replaced as long as nobody edited
    it; whether it is active stays as people left it. One that people removed stays removed.
options:
  url: {description: Address of n8n., type: str, required: true}
  owner_mail: {description: Mail address of the owner., type: str, required: true}
  owner_password: {description: Password of the owner., type: str, required: true}
  users:
    description: The accounts.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Full name., type: str, required: true}
      mail: {description: Mail address., type: str, required: true}
      password: {description: First password., type: str, required: true}
      admin: {description: "Whether the user administers n8n, where its licence has such users.", type: bool, default: false}
      groups: {description: Not used here., type: list, elements: str, default: []}
      language: {description: Not used here., type: str}
  credentials:
    description: "The credentials: C(name), C(type) as n8n calls it, and C(data)."
    type: list
    elements: dict
    default: []
  flows:
    description: "The workflows: C(id), and C(template), a file below C(templates/n8n/flows)."
    type: list
    elements: dict
    default: []
  payload: {description: What the action hands to the module; not for playbooks., type: str}
attributes:
  check_mode: {support: full, description: Says what would be made.}
  diff_mode: {support: full, description: Lists what is made.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Make accounts, credentials and workflows
  freehold.stack.n8n_content:
    url: http://10.20.0.145:5678
    owner_mail: admin@acme.internal
    owner_password: "{{ lookup('freehold.stack.secret', 'n8n.owner_password') }}"
    users: []
    credentials:
      - name: Language models
        type: openAiApi
        data: {apiKey: "{{ lookup('freehold.stack.secret', 'litellm.key_n8n') }}", url: "http://10.20.0.150:4000/v1"}
    flows:
      - {id: freeholdIntake000, template: intake}
"""

RETURN = r"""
done:
  description: What was done, in words.
  returned: always
  type: list
  elements: str
"""

MADE = Path("/var/lib/freehold/n8n-content.json")
"""What this module made: ids of accounts, ids and digests of credentials, versions and digests of workflows."""


class _N8n:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.cookie = ""
        self.done: list[str] = []
        self.made: dict[str, Any] = {"users": [], "credentials": {}, "flows": {}} | (kept.read(MADE) or {})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API that n8n's own pages use; its answer's ``data``."""
        headers = {"browser-id": "freehold"} | ({"Cookie": self.cookie} if self.cookie else {})
        answer = api.ask(method, f"{self.module.params['url']}/rest/{path}", body, headers)
        if path == "login":
            self.cookie = "; ".join(
                each.partition(";")[0] for each in answer.headers.get_all("Set-Cookie") or []
            )
        return answer.json().get("data")

    def make(self, words: str, method: str, path: str, body: Any = None) -> Any:
        """A change, except in check mode."""
        self.done.append(words)
        if self.module.check_mode:
            return {}
        pending.add(pending.FOLDER, "n8n", [])
        return self.ask(method, path, body)

    def keep(self) -> None:
        """Remember at once what was made: a run that is cut off later must still know it as ours."""
        if not self.module.check_mode:
            kept.write(MADE, self.made, folder_mode=0o755)

    def digest(self, content: Any) -> str:
        """Of what may be secret, with a key that only this host knows."""
        key = str(self.made.setdefault("key", secrets.token_hex(32)))
        text = json.dumps(content, sort_keys=True).encode()
        return hashlib.blake2b(text, key=key.encode(), digest_size=32).hexdigest()


def _users(server: _N8n) -> None:
    found = {user["email"].lower(): user for user in server.ask("GET", "users?take=-1&skip=0")["items"]}
    for user in server.module.params["users"]:
        mail = user["mail"].lower()
        known = found.get(mail)
        if known is None:
            _account(server, mail, user)
        elif known["isPending"] and known["id"] in server.made["users"]:
            link = server.make(f"invitation of {mail}", "POST", f"users/{known['id']}/invite-link")
            _accept(server, link.get("link", ""), user)
    mails = {user["mail"].lower() for user in server.module.params["users"]}
    for mail, known in found.items():
        if mail not in mails and known["id"] in server.made["users"]:
            heir = server.ask("GET", "projects/personal")["id"]
            server.make(f"removal of account {mail}", "DELETE", f"users/{known['id']}?transferId={heir}")
            server.made["users"].remove(known["id"])
            server.keep()


def _account(server: _N8n, mail: str, user: dict[str, Any]) -> None:
    role = "global:admin" if user["admin"] and _licensed(server) else "global:member"
    answer = server.make(f"account {mail}", "POST", "invitations", [{"email": mail, "role": role}])
    if answer:
        server.made["users"].append(answer[0]["user"]["id"])
        server.keep()
        _accept(server, answer[0]["user"]["inviteAcceptUrl"], user)


def _licensed(server: _N8n) -> bool:
    """Whether n8n's licence knows administrators besides the owner."""
    return bool(server.ask("GET", "settings")["enterprise"].get("advancedPermissions"))


def _accept(server: _N8n, link: str, user: dict[str, Any]) -> None:
    if server.module.check_mode:
        return
    first, _, last = user["name"].strip().partition(" ")
    form = {
        "token": parse_qs(urlsplit(link).query)["token"][0],
        "firstName": first,
        "lastName": last.strip() or first,
        "password": user["password"],
    }
    # The answer logs the new account in; the owner's cookie stays ours.
    server.ask("POST", "invitations/accept", form)


def _credentials(server: _N8n, wanted: list[dict[str, Any]]) -> dict[str, str]:
    """Bring the credentials about; their ids by name."""
    found = {entry["id"]: entry for entry in server.ask("GET", "credentials")}
    made = server.made["credentials"]
    ids = {}
    for credential in wanted:
        name = credential["name"]
        digest = server.digest(credential)
        known = made.get(name, {})
        if known.get("id") not in found:
            new = server.make(f"credential {name}", "POST", "credentials", credential)
            known = {"id": new.get("id", name), "digest": digest}
        elif known["digest"] != digest:
            server.make(f"content of credential {name}", "PATCH", f"credentials/{known['id']}", credential)
            known = {"id": known["id"], "digest": digest}
        ids[name] = known["id"]
        if made.get(name) != known:
            made[name] = known
            server.keep()
    for name in set(made) - set(ids):
        if made[name]["id"] in found:
            server.make(f"removal of credential {name}", "DELETE", f"credentials/{made[name]['id']}")
        del made[name]
        server.keep()
    return ids


def _flows(server: _N8n, wanted: list[dict[str, Any]], credentials: dict[str, str]) -> None:
    made = server.made["flows"]
    for flow in wanted:
        for node in flow["nodes"]:
            for reference in node.get("credentials", {}).values():
                reference["id"] = credentials[reference["name"]]
        digest = server.digest(flow)
        known = made.get(flow["id"])
        if known is None:
            version = _make_flow(server, flow)
        elif known["digest"] == digest:
            continue
        else:
            version = _replace_flow(server, flow, known["version"])
        made[flow["id"]] = {"digest": digest, "version": version}
        server.keep()
    for identifier in set(made) - {flow["id"] for flow in wanted}:
        now = _current(server, identifier)
        if now and now["versionId"] == made[identifier]["version"]:
            server.make(f"removal of workflow {now['name']}", "POST", f"workflows/{identifier}/archive", {})
            server.make(f"deletion of workflow {now['name']}", "DELETE", f"workflows/{identifier}")
        del made[identifier]
        server.keep()


def _current(server: _N8n, identifier: str) -> dict[str, Any] | None:
    """A workflow as it is; None where there is none of this id, or people put it away."""
    try:
        found: dict[str, Any] = server.ask("GET", f"workflows/{identifier}")
    except api.RefusedError as refused:
        if refused.status != 404:
            raise
        return None
    return None if found["isArchived"] else found


def _make_flow(server: _N8n, flow: dict[str, Any]) -> str:
    """A new workflow, active; its version. One of an earlier installation of this host is taken over as it is."""
    now = _current(server, flow["id"])
    if now is None:
        now = server.make(f"workflow {flow['name']}", "POST", "workflows", flow)
        _activate(server, flow["id"], now)
    return str(now.get("versionId"))


def _replace_flow(server: _N8n, flow: dict[str, Any], version: str) -> str:
    """A workflow with new content, where nobody edited it; its version."""
    now = _current(server, flow["id"])
    if now is None or now["versionId"] != version:
        return version
    active = bool(now.get("activeVersionId"))
    content = {key: value for key, value in flow.items() if key != "id"}
    new = server.make(f"content of workflow {flow['name']}", "PATCH", f"workflows/{flow['id']}", content)
    if active:
        _activate(server, flow["id"], new)
    return str(new.get("versionId"))


def _activate(server: _N8n, identifier: str, flow: dict[str, Any]) -> None:
    if not server.module.check_mode:
        server.ask("POST", f"workflows/{identifier}/activate", {"versionId": flow["versionId"]})


def _apply(server: _N8n, payload: dict[str, Any]) -> None:
    login = {
        "emailOrLdapLoginId": server.module.params["owner_mail"],
        "password": server.module.params["owner_password"],
    }
    server.ask("POST", "login", login)
    _users(server)
    ids = _credentials(server, payload["credentials"])
    _flows(server, payload["flows"], ids)


def main() -> None:
    """Hold accounts, credentials and workflows against the wanted ones and make what differs."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "owner_mail": {"type": "str", "required": True},
            "owner_password": {"type": "str", "required": True, "no_log": True},
            "users": accounts.USERS,
            "credentials": {"type": "list", "elements": "dict", "default": [], "no_log": True},
            "flows": {"type": "list", "elements": "dict", "default": []},
            "payload": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    if not module.params["payload"]:
        module.fail_json(
            msg="freehold.stack.n8n_content runs through its action plugin; install the freehold package here"
        )
    payload = json.loads(zlib.decompress(base64.b64decode(module.params["payload"])))
    server = _N8n(module)
    try:
        _apply(server, payload)
    except api.RefusedError as refused:
        module.fail_json(msg=f"n8n refused: {refused}", done=server.done)
    except OSError as error:
        if not module.check_mode:
            module.fail_json(msg=f"n8n at {module.params['url']} does not answer: {error}", done=server.done)
        # On a new host, an earlier task would have started it.
        server.done = [f"account {user['mail']}" for user in module.params["users"]]
    after = "".join(f"{line}\n" for line in server.done)
    module.exit_json(changed=bool(server.done), done=server.done, diff={"before": "", "after": after})


if __name__ == "__main__":
    main()
