"""Certificates, retries, silence and nonsense, over a real TLS socket on the loopback interface."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from freehold.errors import BadInputError, ExitCode
from freehold.proxmox import client as client_module
from freehold.proxmox import errors, tls
from freehold.proxmox.client import Password, PveClient, Token

SECRET = "5f3c-the-secret-of-the-token"
TOKEN = Token("freehold@pve!freehold", SECRET)
Answer = tuple[int, str, bytes]


def certificate(folder: Path, address: str) -> Path:
    """A self-signed certificate with its key, for an address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pve")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "pve.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Server:
    """Answers what the test says, or nothing."""

    def __init__(self, pem: Path) -> None:
        self.pem = pem
        self.seen: list[tuple[str, str, dict[str, str], str]] = []
        self.answer: Callable[[int], Answer | None] = lambda count: (
            200,
            "OK",
            b'{"data": {"version": "9.2.11"}}',
        )
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                owner.seen.append((self.command, self.path, dict(self.headers), body))
                answer = owner.answer(len(owner.seen))
                if answer is None:
                    self.close_connection = True
                    return
                status, reason, content = answer
                self.send_response(status, reason)
                if content:
                    self.send_header("Content-Type", "application/json;charset=UTF-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def fingerprint(self) -> str:
        pem = self.pem.read_text()
        return tls.fingerprint(ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN CERTIFICATE") :]))

    def client(self, **options: Any) -> PveClient:
        credential = options.pop("credential", TOKEN)
        if not {"ca_file", "fingerprint"} & set(options):
            options["ca_file"] = self.pem
        return PveClient(f"https://127.0.0.1:{self.port}", credential, **{"timeout": 5, **options})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(certificate(tmp_path, "127.0.0.1"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "wait_random_exponential", lambda **_: lambda state: 0.01)


def test_a_ca_file_or_the_fingerprint_is_trust_enough(server: Server) -> None:
    assert server.client().get("/version") == {"version": "9.2.11"}
    assert server.client(fingerprint=server.fingerprint).get("/version") == {"version": "9.2.11"}
    assert server.seen[0][2]["Authorization"] == f"PVEAPIToken={TOKEN.id}={SECRET}"


def test_a_certificate_that_nothing_vouches_for_is_refused_before_anything_is_sent(server: Server) -> None:
    client = PveClient(f"https://127.0.0.1:{server.port}", TOKEN)
    with pytest.raises(errors.CertificateError) as caught:
        client.get("/version")
    assert caught.value.got == server.fingerprint
    assert server.fingerprint in str(caught.value.answer)
    assert not server.seen


def test_a_wrong_fingerprint_is_refused_and_both_are_shown(server: Server) -> None:
    wrong = ":".join(["AB"] * 32)
    with pytest.raises(errors.CertificateError) as caught:
        server.client(fingerprint=wrong).get("/version")
    assert (caught.value.expected, caught.value.got) == (wrong, server.fingerprint)
    assert not server.seen


def test_a_wrong_ca_is_refused_for_the_login_of_root_too(server: Server, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for options in ({"ca_file": certificate(other, "127.0.0.1")}, {"fingerprint": ":".join(["00"] * 32)}):
        client = server.client(credential=Password("root@pam", SECRET), **options)
        with pytest.raises(errors.CertificateError):
            client.get("/version")
    assert not server.seen


def test_the_environment_cannot_weaken_the_trust(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.pem))
    with pytest.raises(errors.CertificateError):
        server.client(fingerprint=":".join(["AB"] * 32)).get("/version")
    assert not server.seen


def test_a_missing_ca_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        PveClient("https://127.0.0.1:8006", TOKEN, ca_file=tmp_path / "none.pem")
    assert caught.value.exit_code is ExitCode.BAD_INPUT


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = PveClient(f"https://127.0.0.1:{port}", TOKEN)
    with pytest.raises(errors.ApiUnreachableError) as caught:
        client.call("POST", "/nodes/pve/lxc", {"vmid": 100})
    assert client.calls == client_module.ATTEMPTS
    assert not caught.value.sent
    assert "refused" in str(caught.value.answer)


def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(errors.ApiUnreachableError) as caught:
        PveClient("https://pve.invalid:8006", TOKEN).get("/version")
    assert not caught.value.sent
    assert "not known" in str(caught.value.answer)


def test_a_get_is_repeated_until_the_node_is_back(server: Server) -> None:
    silence: dict[int, Answer | None] = {
        1: None,
        2: (596, "Connection timed out", b""),
        3: (502, "Bad Gateway", b""),
    }
    server.answer = lambda count: silence.get(count, (200, "OK", b'{"data": 1}'))
    assert server.client().get("/version") == 1
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    "answer", [None, (596, "Broken pipe", b""), (595, "No route", b""), (502, "x", b"<html>")]
)
def test_a_write_whose_answer_is_lost_is_never_repeated(server: Server, answer: Answer | None) -> None:
    server.answer = lambda count: answer
    with pytest.raises(errors.ApiUnreachableError) as caught:
        server.client().call("POST", "/nodes/pve/lxc", {"vmid": 100})
    assert len(server.seen) == 1
    assert caught.value.sent


def test_a_write_that_met_a_held_lock_is_repeated(server: Server) -> None:
    busy = b"can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout"
    answers = {1: (500, busy.decode(), json.dumps({"data": None, "message": busy.decode()}).encode())}
    server.answer = lambda count: answers.get(count, (200, "OK", b'{"data": null}'))
    assert server.client().call("PUT", "/nodes/pve/lxc/100/config", {"memory": 512}) is None
    assert len(server.seen) == 2


def test_a_server_that_never_answers(server: Server) -> None:
    def sleep(count: int) -> Answer | None:
        time.sleep(1.5)
        return None

    server.answer = sleep
    client = server.client(timeout=0.3)
    with pytest.raises(errors.ApiUnreachableError, match="in time"):
        client.call("PUT", "/pools", {"poolid": "x", "vms": 100})
    assert client.calls == 1


@pytest.mark.parametrize(
    "answer",
    [
        (404, "Not Found", b"<html>nginx</html>"),
        (200, "OK", b"<html>hello</html>"),
        (200, "OK", b'["something"]'),
    ],
)
def test_something_else_answers(server: Server, answer: Answer) -> None:
    server.answer = lambda count: answer
    with pytest.raises(errors.ApiUnreachableError, match="not the Proxmox VE API"):
        server.client().call("POST", "/pools", {"poolid": "x"})


def test_a_401_has_no_body(server: Server) -> None:
    server.answer = lambda count: (401, "Authentication failed!", b"")
    with pytest.raises(errors.AuthenticationError) as caught:
        server.client().get("/version")
    assert caught.value.answer == "Authentication failed!"
    assert len(server.seen) == 1


def test_a_reason_phrase_is_enough_for_old_nodes(server: Server) -> None:
    server.answer = lambda count: (500, "CT is locked (backup)", b'{"data": null}')
    with pytest.raises(errors.GuestLockedError) as caught:
        server.client().call("PUT", "/nodes/pve/lxc/100/config", {"memory": 512})
    assert caught.value.lock == "backup"
    assert caught.value.answer == "CT is locked (backup)"


def test_root_logs_in_once_and_sends_the_csrf_token_on_writes(server: Server) -> None:
    def answer(count: int) -> Answer:
        path = server.seen[-1][1]
        data: Any = (
            {"ticket": "PVE:root@pam:6B::sig", "CSRFPreventionToken": "6B:csrf"} if "ticket" in path else None
        )
        return 200, "OK", json.dumps({"data": data}).encode()

    server.answer = answer
    client = server.client(credential=Password("root@pam", SECRET), fingerprint=server.fingerprint)
    client.get("/version")
    client.call("PUT", "/nodes/pve/lxc/100/config", {"dev0": "/dev/kfd"})
    assert [path for _, path, _, _ in server.seen].count("/api2/json/access/ticket") == 1
    read, write = server.seen[1][2], server.seen[2][2]
    assert "CSRFPreventionToken" not in read
    assert write["CSRFPreventionToken"] == "6B:csrf"
    assert "PVEAuthCookie=" in write["Cookie"]
    assert client.is_root


def test_a_failed_login_of_root_is_said(server: Server) -> None:
    body = b'{"data": null, "message": "authentication failure\\n"}'
    server.answer = lambda count: (401, "authentication failure", body)
    with pytest.raises(errors.AuthenticationError):
        server.client(credential=Password("root@pam", SECRET)).get("/version")


def test_no_error_and_no_repr_shows_a_secret(server: Server) -> None:
    server.answer = lambda count: (500, "x", b'{"data": null, "message": "y"}')
    for credential in (TOKEN, Password("root@pam", SECRET)):
        client = server.client(credential=credential)
        with pytest.raises(errors.PveError) as caught:
            client.get("/version")
        shown = repr(caught.value.as_dict()) + repr(credential) + repr(client) + repr(vars(client))
        assert SECRET not in shown


def test_a_failed_task_brings_its_log_and_a_warning_is_success(server: Server) -> None:
    upid = "UPID:pve:0000726A:000A0575:6B019CFD:vzcreate:100:freehold@pve!freehold:"
    states = {"exit": "unable to create CT 100 - No space left on device"}

    def answer(count: int) -> Answer:
        path = server.seen[-1][1]
        data: Any = [{"n": 1, "t": "extracting archive"}, {"n": 2, "t": "WARN: Systemd 252 detected"}]
        if path.endswith("/status"):
            running = count == 1
            data = {"status": "running"} if running else {"status": "stopped", "exitstatus": states["exit"]}
        return 200, "OK", json.dumps({"data": data}).encode()

    server.answer = answer
    with pytest.raises(errors.StorageFullError) as caught:
        server.client().wait(upid)
    assert "extracting archive" in str(caught.value.answer)
    assert server.seen[0][1].startswith("/api2/json/nodes/pve/tasks/UPID%3Apve%3A")
    states["exit"] = "WARNINGS: 1"
    assert server.client().wait(upid).warnings == ("WARN: Systemd 252 detected",)


def test_a_task_that_does_not_end_is_not_waited_for_forever(server: Server) -> None:
    server.answer = lambda count: (200, "OK", b'{"data": {"status": "running"}}')
    upid = "UPID:pve:0000726A:000A0575:6B019CFD:vzstart:100:freehold@pve!freehold:"
    with pytest.raises(errors.TaskTimeoutError):
        server.client().wait(upid, deadline=0.3)


def test_a_task_is_followed_over_a_restart_of_the_api(server: Server) -> None:
    """pveproxy restarts when its certificate is renewed or the node is upgraded; the task goes on meanwhile."""
    ended = {"status": "stopped", "exitstatus": "OK"}
    away = 3 * client_module.ATTEMPTS
    server.answer = lambda count: None if count <= away else (200, "OK", json.dumps({"data": ended}).encode())
    upid = "UPID:pve:0000726A:000A0575:6B019CFD:vzcreate:100:freehold@pve!freehold:"
    assert server.client().wait(upid).upid == upid
    assert len(server.seen) == away + 1


def test_an_api_that_stays_away_is_an_error_though_a_task_may_go_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "OUTAGE", 0.3)
    server.answer = lambda count: None
    upid = "UPID:pve:0000726A:000A0575:6B019CFD:vzcreate:100:freehold@pve!freehold:"
    with pytest.raises(errors.ApiUnreachableError):
        server.client().wait(upid)
