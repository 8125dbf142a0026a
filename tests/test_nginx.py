"""The web app behind a real nginx with the configuration of docs/web.md: the token, cookies, event streams, limits."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from bot.cli import ROOT
from tests import lively, programs, web_run
from tests.lively import Server

HOST = "bot.example.org"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nginx_program = programs.needed("nginx-light", "nginx")
    folder = tmp_path_factory.mktemp("nginx")
    config = folder / "config.toml"
    config.write_text(f'{web_run.WITHOUT_MODELS}[web]\nstate = "{folder / "web.json"}"\nchat = "{folder / "chat.jsonl"}"\n')
    with lively.server(config, WEB__URL=f"https://{HOST}") as app:
        port = lively.free_port()
        (folder / "nginx.conf").write_text(nginx_config(folder, port, app.port))
        with subprocess.Popen([nginx_program, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as nginx:
            try:
                yield Site(app, port, folder / "certificate.pem")
            finally:
                nginx.terminate()


def nginx_config(folder: Path, port: int, app_port: int) -> str:
    """The `server` block of docs/web.md on other ports, with a certificate of its own."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={HOST}"]
    command += ["-addext", f"subjectAltName=DNS:{HOST}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    blocks = re.findall(r"```nginx\n(server \{.*?\n\})\n```", (ROOT / "docs" / "web.md").read_text(), re.DOTALL)
    (block,) = blocks
    for written, here in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        f"/etc/letsencrypt/live/{HOST}/fullchain.pem": str(certificate),
        f"/etc/letsencrypt/live/{HOST}/privkey.pem": str(key),
        "http://127.0.0.1:8000": f"http://127.0.0.1:{app_port}",
    }.items():
        assert written in block
        block = block.replace(written, here)
    paths = "".join(f"{name}_temp_path {folder / name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    files = f"access_log off; error_log {folder / 'error.log'};\n"
    return f"daemon off; pid {folder / 'nginx.pid'}; error_log {folder / 'error.log'};\nevents {{}}\nhttp {{\n{files}{paths}{block}\n}}\n"


class Site:
    """A browser's session at the site."""

    def __init__(self, app: Server, port: int, certificate: Path) -> None:
        self.app, self.port, self.cookie, self.certificate = app, port, "", certificate
        self.tls = ssl.create_default_context(cafile=str(certificate))
        deadline = time.monotonic() + 20
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port)).close()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def open(self, method: str, path: str, form: dict[str, str] | None = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=60, context=self.tls)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sock = self.tls.wrap_socket(plain, server_hostname=HOST)
        headers = {"Host": HOST, "Cookie": self.cookie, **headers}
        if form is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"https://{HOST}"}
        connection.request(method, path, urlencode(form) if form is not None else None, headers)
        answer = connection.getresponse()
        self.cookie = (answer.getheader("Set-Cookie") or self.cookie).partition(";")[0]
        return answer


def test_a_visitor_behind_nginx(site: Site) -> None:
    assert site.open("GET", "/").status == 401
    entered = site.open("GET", site.app.address.removeprefix(f"https://{HOST}"))
    cookie = entered.getheader("Set-Cookie") or ""
    assert entered.status == 303 and "Secure" in cookie and "HttpOnly" in cookie
    assert site.open("GET", "/name").status == 200
    assert site.open("GET", "/name", Host="elsewhere.example.org").status == 400

    named = site.open("GET", "/name").read().decode()
    csrf = re.search(r'name="csrf_token" value="([\w-]+)"', named)
    assert csrf
    assert site.open("POST", "/name", {"csrf_token": csrf[1], "who": "Ann", "next": "/chat/"}).status == 303
    assert site.open("POST", "/name", {"who": "Ann"}).status == 400  # without the token of the session
    assert site.open("POST", "/chat/say", {"text": "x" * 140_000}, **{"X-CSRF-Token": csrf[1]}).status == 413

    stream = site.open("GET", "/chat/events")
    assert stream.status == 200 and (stream.getheader("Content-Type") or "").startswith("text/event-stream")
    for number in range(2):  # an event arrives while the stream is open: nginx does not wait for its end
        assert site.open("POST", "/chat/say", {"text": f"Number {number}."}, **{"X-CSRF-Token": csrf[1]}).status == 200
        assert f"Number {number}." in next(line for line in map(bytes.decode, stream) if '"type": "message"' in line)


def test_browsers_get_http_2(site: Site) -> None:
    tls = ssl.create_default_context(cafile=str(site.certificate))
    tls.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=60) as plain,
        tls.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"


def test_many_open_streams_leave_room_for_pages(site: Site) -> None:
    streams = []
    for number in range(3):
        site.cookie = ""
        site.open("GET", site.app.address.removeprefix(f"https://{HOST}"))
        csrf = re.search(r'name="csrf_token" value="([\w-]+)"', site.open("GET", "/name").read().decode())
        assert csrf and site.open("POST", "/name", {"csrf_token": csrf[1], "who": f"Person {number}"}).status == 303
        assert site.open("GET", "/chat/").status == 200
        streams += [site.open("GET", "/chat/events") for _ in range(20)]
    assert {each.status for each in streams} == {200}
    assert site.open("GET", "/chat/events").status == 503
    assert site.open("GET", "/name").status == 200
