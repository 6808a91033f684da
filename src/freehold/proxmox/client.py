"""One session with the Proxmox VE API, by an API token or as root@pam.

Built on proxmoxer's session and resources. The certificate is always verified; what may safely be repeated is
repeated; every refusal becomes an error of `freehold.proxmox.errors`; tasks are followed to their end.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import requests
from proxmoxer import ProxmoxResource
from proxmoxer.backends.https import (
    JsonSerializer,
    ProxmoxHTTPApiTokenAuth,
    ProxmoxHTTPAuthBase,
    ProxmoxHttpSession,
)
from proxmoxer.core import ResourceException
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar, cookiejar_from_dict
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

from freehold.errors import BadInputError
from freehold.proxmox import answers, errors, tls

DEFAULT_PORT = 8006
ATTEMPTS = 4
"""How often a call is sent that may safely be repeated."""
PARALLEL = 8
"""Connections of one session; more work than that waits."""
TASK_DEADLINE = 900.0
"""Seconds after which a task is no longer waited for; a create unpacks some hundred MiB and may be slow."""
OUTAGE = 60.0
"""Seconds for which the API may be away while a task is followed; pveproxy restarts during upgrades."""
TICKET_AGE = 3600.0
"""Seconds after which a ticket is renewed; it lives 7200 (``POST /access/ticket``)."""

Params = Mapping[str, str | int]
Progress = Callable[[str], None]

_GATEWAY = frozenset({502, 503, 504, 595, 596, 597, 599})
"""Answers of a proxy, or of pveproxy itself where the node behind it cannot be reached (AnyEvent::HTTP 595 to 599)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Token:
    """An API token: its id (``user@realm!name``) and its secret."""

    id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Password:
    """A user (``root@pam``) and the password, for a session by ticket."""

    user: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class TaskResult:
    """How a task ended well."""

    upid: str
    warnings: tuple[str, ...] = ()
    """Lines of its log that begin with ``WARN``, where it ended with warnings."""


class _NotTheApiError(Exception):
    """A server answered, but not as the Proxmox VE API does."""


class _Serializer(JsonSerializer):  # type: ignore[misc]
    """Keeps the whole error body, where proxmoxer keeps ``errors`` alone."""

    def loads(self, response: requests.Response) -> Any:
        try:
            return response.json()["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise _NotTheApiError from error

    def loads_errors(self, response: requests.Response) -> Any:
        try:
            return json.loads(response.content)
        except ValueError:
            return response.text


class _TicketAuth(ProxmoxHTTPAuthBase):  # type: ignore[misc]
    """Logs in over the session itself, so that the login is verified like every other call."""

    def __init__(self, session: requests.Session, base_url: str, password: Password, timeout: float) -> None:
        super().__init__(timeout=timeout, verify_ssl=True)
        self._session, self._url, self._password = session, f"{base_url}/access/ticket", password
        self._anonymous = ProxmoxHTTPAuthBase(timeout=timeout, verify_ssl=True)
        self._lock = threading.Lock()
        self._born = 0.0
        self._ticket = self._csrf = ""

    def get_cookies(self) -> RequestsCookieJar:
        with self._lock:
            if not self._ticket or time.monotonic() - self._born > TICKET_AGE:
                self._login()
        return cookiejar_from_dict({"PVEAuthCookie": self._ticket})  # type: ignore[no-any-return, no-untyped-call]

    def _login(self) -> None:
        self._anonymous.verify_ssl = self.verify_ssl
        secret = self._ticket or self._password.secret
        # `post` of this session would pass `json`, which proxmoxer's `request` does not take.
        answer = self._session.request(
            "POST",
            self._url,
            data={"username": self._password.user, "password": secret},
            auth=self._anonymous,
        )
        if answer.status_code != 200:
            self._ticket = ""
            raise ResourceException(
                answer.status_code, "", answer.reason or "", errors=_Serializer().loads_errors(answer)
            )
        data = _Serializer().loads(answer)
        if data.get("NeedTFA"):
            raise errors.AuthenticationError(
                f"{self._password.user} asks for a second factor, which cannot be given here.",
                remedy="Give SSH to the node instead (nodes.<name>.address).",
            )
        self._ticket, self._csrf, self._born = data["ticket"], data["CSRFPreventionToken"], time.monotonic()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if request.method != "GET":
            request.headers["CSRFPreventionToken"] = self._csrf
        return request


class PveClient:
    """A session with the API of one Proxmox VE cluster. Threads may share it.

    Args:
        endpoint: ``https://host[:8006]``.
        credential: Who calls.
        ca_file: CA certificate (PEM) that signed the API's certificate; the system's CAs when neither this nor
            ``fingerprint`` is given.
        fingerprint: SHA-256 fingerprint of the API's certificate.
        timeout: Seconds that one call may take.

    Raises:
        BadInputError: The endpoint is no https address, or the CA file cannot be read.
    """

    def __init__(
        self,
        endpoint: str,
        credential: Token | Password,
        *,
        ca_file: Path | None = None,
        fingerprint: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme != "https" or not parts.hostname:
            raise BadInputError(f"{endpoint} is no https address.", where="proxmox.endpoint")
        if ca_file is not None and not ca_file.is_file():
            raise BadInputError(
                f"The CA certificate {ca_file} is not there.",
                where="proxmox.ca_file",
                remedy="Copy /etc/pve/pve-root-ca.pem from the node, or give the certificate's fingerprint instead.",
            )
        self.host, self.port = parts.hostname, parts.port or DEFAULT_PORT
        self.fingerprint = fingerprint
        self.timeout = timeout
        self.calls = 0
        """HTTP requests sent so far."""
        shown_host = f"[{self.host}]" if ":" in self.host else self.host
        self.base_url = f"https://{shown_host}:{self.port}/api2/json"
        self._count = threading.Lock()
        self._session = ProxmoxHttpSession()
        adapter = (
            tls.PinnedAdapter(fingerprint, pool_maxsize=PARALLEL)
            if fingerprint
            else HTTPAdapter(pool_maxsize=PARALLEL)
        )
        self._session.mount("https://", adapter)
        self._session.headers.update({"accept": "application/json", "connection": "keep-alive"})
        self.user = credential.id if isinstance(credential, Token) else credential.user
        self._session.auth = self._auth(credential)
        self._session.auth.verify_ssl = str(ca_file) if ca_file else True
        self._root = ProxmoxResource(base_url=self.base_url, session=self._session, serializer=_Serializer())

    def _auth(self, credential: Token | Password) -> ProxmoxHTTPAuthBase:
        if isinstance(credential, Password):
            return _TicketAuth(self._session, self.base_url, credential, self.timeout)
        user, _, name = credential.id.partition("!")
        return ProxmoxHTTPApiTokenAuth(user, name, credential.secret, timeout=self.timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()

    @property
    def is_root(self) -> bool:
        """Whether the session is root@pam's own, so that it may pass devices and bind directories."""
        return self.user == "root@pam"

    def get(self, path: str, params: Params | None = None, *, doing: str | None = None) -> Any:
        """`call` with GET."""
        return self.call("GET", path, params, doing=doing)

    def call(self, method: str, path: str, params: Params | None = None, *, doing: str | None = None) -> Any:
        """Send one call and return the ``data`` of its answer.

        A GET is repeated when the API does not answer; anything else only when it was surely not carried out: the
        connection was never made, or another task held the configuration.

        Args:
            method: ``GET``, ``POST``, ``PUT`` or ``DELETE``.
            path: Path below ``/api2/json``, such as ``/nodes/pve/lxc``.
            params: Query of GET and DELETE, form of POST and PUT. Booleans are 0 and 1.
            doing: What the call is for, for the error.

        Raises:
            PveError: One of `freehold.proxmox.errors`.
        """
        repeat = Retrying(
            retry=retry_if_exception(lambda error: _may_repeat(method, error)),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.4, max=5),
            reraise=True,
        )
        what = doing or f"calling {method} {path}"
        return repeat(self._send, method, path, dict(params or {}), what)

    def _send(self, method: str, path: str, params: dict[str, str | int], doing: str) -> Any:
        where = f"{method} {path}"
        with self._count:
            self.calls += 1
        resource = self._root(path.strip("/"))
        send = {"GET": resource.get, "POST": resource.post, "PUT": resource.put, "DELETE": resource.delete}
        try:
            return send[method](**params)
        except ResourceException as answer:
            raise self._refused(answer, doing, where) from None
        except _NotTheApiError:
            raise self._not_the_api(doing) from None
        except requests.exceptions.RequestException as failure:
            raise self._unanswered(failure, doing) from failure

    def _refused(self, answer: ResourceException, doing: str, where: str) -> errors.PveError:
        status = int(answer.status_code)
        if status in _GATEWAY:
            text, _ = answers.answer_text(str(answer.content), None)
            gone = errors.ApiUnreachableError(
                f"The Proxmox VE API does not answer (status {status}).",
                doing=doing,
                answer=text.split(" - ", 1)[0],
                where=self.base_url,
                remedy="The node behind the API may be down, or pveproxy and pvedaemon may be restarting there.",
            )
            gone.sent, gone.status = True, status
            return gone
        if status in {404, 405}:
            return self._not_the_api(doing)
        # proxmoxer appends the body to the reason phrase
        reason = str(answer.content).removesuffix(f" - {answer.errors}")
        return answers.from_answer(status, reason, answer.errors, doing=doing, where=where)

    def _not_the_api(self, doing: str) -> errors.PveError:
        return errors.ApiUnreachableError(
            "A server answers there, but it is not the Proxmox VE API.",
            doing=doing,
            where=self.base_url,
            remedy="Correct proxmox.endpoint in the stack file; the API's port is 8006.",
        )

    def _unanswered(self, failure: requests.exceptions.RequestException, doing: str) -> errors.PveError:
        if isinstance(failure, requests.exceptions.SSLError) and _is_certificate(failure):
            return self._wrong_certificate(failure, doing)
        sent = not _never_connected(failure)
        remedy = "Check proxmox.endpoint in the stack file, the network, and that pveproxy runs on the node."
        if sent:
            remedy = "The call may have been carried out. Run the command again: it looks at what is there and goes on."
        kind = "in time" if isinstance(failure, requests.exceptions.Timeout) else "at all"
        gone = errors.ApiUnreachableError(
            f"The Proxmox VE API at {self.host}:{self.port} does not answer {kind}.",
            doing=doing,
            answer=_innermost(failure),
            where=self.base_url,
            remedy=remedy,
        )
        gone.sent = sent
        return gone

    def _wrong_certificate(
        self, failure: requests.exceptions.SSLError, doing: str
    ) -> errors.CertificateError:
        got = tls.fingerprint_in(failure) or tls.shown_fingerprint(self.host, self.port, self.timeout)
        wrong = errors.CertificateError(
            "The API shows a certificate that is not trusted.",
            doing=doing,
            where=self.base_url,
            answer=f"expected {self.fingerprint or 'a certificate of the trusted CA for ' + self.host}, got {got or 'none'}",
            remedy="On the node, `pvenode cert info` shows the fingerprint. If it is the one above, write it to"
            " proxmox.fingerprint in the stack file. If not, someone else answers: do not go on.",
        )
        wrong.expected, wrong.got = self.fingerprint, got
        return wrong

    def wait(
        self,
        upid: str,
        *,
        deadline: float = TASK_DEADLINE,
        progress: Progress | None = None,
        doing: str | None = None,
    ) -> TaskResult:
        """Follow a task to its end.

        Args:
            upid: Id of the task.
            deadline: Seconds to wait.
            progress: Called with a short text at each look.
            doing: What the task is for, for the error.

        Raises:
            PveError: The task failed: the error that its text means, with the end of its log.
            ApiUnreachableError: The API was away for more than a minute.
            TaskTimeoutError: The task did not end in time.
        """
        node, kind, guest = _upid_parts(upid)
        path = f"/nodes/{node}/tasks/{quote(upid, safe='')}"
        what = doing or f"waiting for the task {kind} {guest}".rstrip()
        began = answered = time.monotonic()
        pause = 0.15
        while True:
            try:
                state = self.get(f"{path}/status", doing=what)
            except errors.ApiUnreachableError:
                if time.monotonic() - answered > OUTAGE:
                    raise
                time.sleep(1)
                continue
            answered = time.monotonic()
            if state["status"] == "stopped":
                break
            waited = time.monotonic() - began
            if waited > deadline:
                late = errors.TaskTimeoutError(
                    f"The task {kind} did not end within {deadline:.0f} s.",
                    doing=what,
                    where=upid,
                    remedy="It may still be running: look at the node's task list, then run the command again.",
                )
                late.upid = upid
                raise late
            if progress:
                progress(f"{kind} {guest}: {waited:.0f} s")
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)
        exit_text = str(state.get("exitstatus", "unknown"))
        if exit_text == "OK":
            return TaskResult(upid)
        lines = self.task_log(upid, doing=what)
        if exit_text.startswith("WARNINGS:"):
            return TaskResult(upid, tuple(line for line in lines if line.lstrip().upper().startswith("WARN")))
        raise answers.from_task(exit_text, upid=upid, log=lines, doing=what, where=upid)

    def task_log(self, upid: str, *, doing: str | None = None) -> tuple[str, ...]:
        """Lines of a task's log, at most 2000 (``GET /nodes/{node}/tasks/{upid}/log``)."""
        node, kind, guest = _upid_parts(upid)
        path = f"/nodes/{node}/tasks/{quote(upid, safe='')}/log"
        answer = self.get(path, {"limit": 2000}, doing=doing or f"reading the log of {kind} {guest}".rstrip())
        return tuple(str(line["t"]) for line in answer or ())


def is_upid(data: Any) -> bool:
    """Whether an answer is the id of a task that was started."""
    return isinstance(data, str) and data.startswith("UPID:")


def _upid_parts(upid: str) -> tuple[str, str, str]:
    parts = upid.split(":")
    if len(parts) < 8 or parts[0] != "UPID":
        raise ValueError(f"{upid!r} is no task id")
    return parts[1], parts[5], parts[6]


def _may_repeat(method: str, error: BaseException) -> bool:
    if isinstance(error, errors.ConfigBusyError):
        return True
    return isinstance(error, errors.ApiUnreachableError) and (method == "GET" or not error.sent)


def _is_certificate(failure: Exception) -> bool:
    text = str(failure)
    return any(sign in text for sign in ("CERTIFICATE_VERIFY_FAILED", "ingerprint", "doesn't match"))


def _never_connected(failure: requests.exceptions.RequestException) -> bool:
    if isinstance(failure, requests.exceptions.ConnectTimeout):
        return True
    cause = failure.args[0] if failure.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else cause
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)


def _innermost(failure: BaseException) -> str:
    """The plainest text of a chain of network errors: ``[Errno 111] Connection refused``."""
    seen: BaseException = failure
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    return str(seen) or type(seen).__name__
