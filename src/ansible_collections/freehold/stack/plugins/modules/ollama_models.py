"""Module: the language models of Ollama on the host, each pinned, in one run over its API on the loopback."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.freehold.stack.plugins.module_utils import kept, pending

DOCUMENTATION = r"""
module: ollama_models
short_description: Brings language models to Ollama and removes those it brought before
description:
  - Runs on the host of Ollama, against its API, whose paths for this are shut to everybody else.
  - A language model with a O(models[].digest) is pulled from the registry that its name stands for, and its manifest
    must be what the digest stands for. If it is not, because somebody moved the tag, it is removed and the module fails.
  - A language model with O(models[].url) and O(models[].sha256) is one file in the format GGUF. It goes straight to
    Ollama as it is downloaded, and Ollama refuses it unless its checksum is right.
  - One without either, of O(served), is pulled once. What its digest is then is noted in
    C(/var/lib/freehold/ollama-digests.json), and from then on it must stay that.
  - Language models that this module brought and that are not wanted any more are removed; others are left alone.
options:
  url: {description: Address of Ollama., type: str, required: true}
  models:
    description: The language models.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      kind: {description: Not used here., type: str}
      digest: {description: Digest of the manifest., type: str, default: ""}
      url: {description: Address of a GGUF file., type: str, default: ""}
      sha256: {description: Checksum of the GGUF file., type: str, default: ""}
  served:
    description:
      - Language models of the stack, each with C(served) (its name here), C(ollama) (the same where it comes from the
        registry), C(digest) and C(files). One of the same name in O(models) counts instead.
    type: list
    elements: dict
    default: []
  timeout: {description: Seconds that bringing one language model may take., type: int, default: 3600}
attributes:
  check_mode: {support: full, description: Says what would be brought and removed.}
  diff_mode: {support: full, description: Lists what is brought and removed.}
author: The Freehold authors
"""

EXAMPLES = r"""
- name: Bring the language models
  freehold.stack.ollama_models:
    url: http://127.0.0.1:11434
    models:
      - name: nomic-embed-text:v1.5
        digest: 0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f
"""

RETURN = r"""
done:
  description: What was done, in words.
  returned: always
  type: list
  elements: str
"""

LEARNED = Path("/var/lib/freehold/ollama-digests.json")
"""Digests of language models that nobody had pinned when they were pulled."""

BROUGHT = Path("/var/lib/freehold/ollama-models.json")
"""Names of the language models that this module brought."""

_BLOCK = 1 << 20
_ATTEMPTS = 3


class _FailedError(Exception):
    """What the person is told."""


def full_name(name: str) -> str:
    """The name as Ollama lists it: with its tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


class _Ollama:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.address = urlsplit(module.params["url"])
        self.until = 0.0

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """The answer, still to be read; see https://docs.ollama.com/api."""
        connection = http.client.HTTPConnection(
            self.address.hostname or "", self.address.port or 80, timeout=self.left()
        )
        if isinstance(body, dict):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        connection.request(method, path, body, headers or {})
        return connection.getresponse()

    def left(self) -> float:
        """Seconds that are left for this language model."""
        return max(1.0, self.until - time.monotonic()) if self.until else 60.0

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The answer of a call that must succeed."""
        answer = self.request(method, path, body)
        text = answer.read().decode("utf-8", "replace")
        if answer.status >= 300:
            raise _FailedError(f"{method} {path}: HTTP {answer.status}: {text[:500]}")
        return dict(json.loads(text)) if text.strip() else {}

    def work(self, path: str, body: dict[str, Any]) -> None:
        """A call that tells line by line how far it is, and may fail in any of them."""
        answer = self.request("POST", path, body)
        for line in answer:
            event = json.loads(line) if line.strip() else {}
            if "error" in event:
                raise _FailedError(str(event["error"]))
            if time.monotonic() > self.until:
                raise _FailedError(f"it took more than {self.module.params['timeout']} seconds")
        if answer.status >= 300:
            raise _FailedError(f"POST {path}: HTTP {answer.status}")

    def digests(self) -> dict[str, str]:
        """Digest of the manifest of each language model that is there."""
        found = self.ask("GET", "/api/tags").get("models") or []
        return {model["name"]: str(model["digest"]).removeprefix("sha256:") for model in found}

    def weights(self, name: str) -> set[str]:
        """Checksums of the files that a language model is made of."""
        text = str(self.ask("POST", "/api/show", {"model": name}).get("modelfile", ""))
        return set(re.findall(r"(?m)^FROM \S*sha256[-:]([0-9a-f]{64})$", text))

    def holds(self, digests: dict[str, str], model: dict[str, Any]) -> bool:
        """Whether a language model is there, and is what was pinned."""
        name = full_name(model["name"])
        if name not in digests:
            return False
        return (
            self.weights(name) == {model["sha256"]} if model["sha256"] else digests[name] == model["digest"]
        )

    def bring(self, model: dict[str, Any]) -> None:
        """Pull a language model, or make it of its file."""
        self.until = time.monotonic() + self.module.params["timeout"]
        name = full_name(model["name"])
        try:
            if not model["sha256"]:
                self.work("/api/pull", {"model": name})
            else:
                self.upload(model)
                self.work(
                    "/api/create", {"model": name, "files": {"model.gguf": f"sha256:{model['sha256']}"}}
                )
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _FailedError(str(error) or type(error).__name__) from error
        digests = self.digests()
        if not model["sha256"] and not model["digest"]:
            _learn(name, digests.get(name, ""))
        elif not self.holds(digests, model):
            found = digests.get(name, "nothing") if model["digest"] else ", ".join(self.weights(name))
            # Nobody may be answered by what was not pinned.
            self.remove(name)
            raise _FailedError(
                f"it is now {found}, and {model['digest'] or model['sha256']} was pinned. Somebody moved the name to "
                "another language model; it was removed. Look at what changed before you pin the new one."
            )

    def remove(self, name: str) -> None:
        """Delete a language model."""
        self.ask("DELETE", "/api/delete", {"model": name})

    def upload(self, model: dict[str, Any]) -> None:
        """Hand Ollama the file of a language model as it is downloaded."""
        path = f"/api/blobs/sha256:{model['sha256']}"
        if self.request("HEAD", path).status == 200:
            return
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._pass_on(path, model)
            except (OSError, http.client.HTTPException) as error:
                if attempt == _ATTEMPTS or time.monotonic() > self.until:
                    raise _FailedError(f"{model['url']}: {error}") from error
                time.sleep(2.0**attempt)
            else:
                return

    def _pass_on(self, path: str, model: dict[str, Any]) -> None:
        opener = urllib.request.build_opener()
        try:
            with opener.open(model["url"], timeout=60) as download:
                length = download.headers.get("Content-Length")
                if not length:
                    raise _FailedError(f"{model['url']} does not say how large it is")
                digest = hashlib.sha256()
                answer = self.request("POST", path, self._parts(download, digest), {"Content-Length": length})
                text = answer.read(500).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            raise _FailedError(f"{model['url']}: {error}") from error
        if digest.hexdigest() != model["sha256"]:
            raise _FailedError(
                f"{model['url']} has the checksum {digest.hexdigest()}, and {model['sha256']} was pinned. "
                "The file was changed, or something between here and there answers in its place."
            )
        if answer.status != 201:
            raise _FailedError(f"Ollama did not take the file: HTTP {answer.status}: {text}")

    def _parts(self, download: Any, digest: Any) -> Iterator[bytes]:
        while part := download.read(_BLOCK):
            if time.monotonic() > self.until:
                raise TimeoutError(f"it took more than {self.module.params['timeout']} seconds")
            digest.update(part)
            yield part


def _read() -> set[str]:
    try:
        found = kept.read(BROUGHT)
    except ValueError:
        return set()
    return set(found) if isinstance(found, list) else set()


def _write(names: set[str]) -> None:
    kept.write(BROUGHT, sorted(names))


def _learned() -> dict[str, str]:
    found = kept.read(LEARNED)
    return dict(found) if isinstance(found, dict) else {}


def _learn(name: str, digest: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise _FailedError("Ollama does not list it after it was pulled")
    kept.write(LEARNED, _learned() | {name: digest})


def _wanted(params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The language models by the name that Ollama lists, each with ``digest``, or ``url`` and ``sha256``, or neither."""
    found = {}
    for model in params["served"]:
        files = [] if model.get("ollama") else model.get("files") or []
        file: dict[str, Any] = next(iter(files), {})
        found[full_name(model["served"])] = {
            "name": model["served"],
            "digest": model.get("digest") or "",
            "url": file.get("url") or "",
            "sha256": file.get("sha256") or "",
        }
    found |= {full_name(model["name"]): model for model in params["models"]}
    learned = _learned()
    for name, model in found.items():
        if not model["digest"] and not model["sha256"]:
            model["digest"] = learned.get(name, "")
    return found


def main() -> None:
    """Bring what is missing, then remove what is not wanted any more."""
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "kind": {"type": "str"},
                    "digest": text,
                    "url": text,
                    "sha256": text,
                },
            },
            "served": {"type": "list", "elements": "dict", "default": []},
            "timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    ollama, done, brought = _Ollama(module), [], _read()
    about = "Ollama"
    try:
        digests = ollama.digests()
        wanted = _wanted(module.params)
        for name, model in wanted.items():
            about = f"The language model {name}"
            if not ollama.holds(digests, model):
                done.append(f"bring {name}")
                if not module.check_mode:
                    pending.add(pending.FOLDER, "ollama", [])
                    # Noted first: what is brought by a run that then dies is removed like the rest.
                    _write(brought := brought | {name})
                    ollama.bring(model)
        for name in sorted(brought - set(wanted)):
            about = f"The language model {name}"
            if name in digests:
                done.append(f"remove {name}")
                if not module.check_mode:
                    pending.add(pending.FOLDER, "ollama", [])
                    ollama.remove(name)
        if brought - set(wanted) and not module.check_mode:
            _write(brought & set(wanted))
    except _FailedError as error:
        module.fail_json(msg=f"{about}: {error}", done=done)
    except (OSError, http.client.HTTPException, ValueError) as error:
        module.fail_json(
            msg=f"{about}: {str(error) or type(error).__name__}. The reason is in its log: journalctl -u ollama",
            done=done,
        )
    diff = {"before": "", "after": "".join(f"{line}\n" for line in done)}
    module.exit_json(changed=bool(done), done=done, diff=diff if done else {})


if __name__ == "__main__":
    main()
