"""A gateway with emulated providers, and a bot's webhook, as processes and servers of this test."""

from __future__ import annotations

import base64
import http.server
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

KEY = "vg_" + secrets.token_urlsafe(32)
SECRETS = ["whsec_" + base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2)]
CALLBACK_SECRET = secrets.token_urlsafe(32)
"""Signs the callbacks of the provider."""

EXECUTABLE = os.environ.get("VOICEGATE_EXECUTABLE", "voicegate")
ROOT = pathlib.Path(__file__).resolve().parents[3]
SAMPLE = ROOT / "src/demo/sample.mp3"
RECORDING = ROOT / "tests/fixtures/audio/recorder-wideband.ogg"
"""A voice note as a phone records it."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def answers(url) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def eventually(what, condition, seconds=60):
    """Waits until `condition` returns something."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited in vain for: {what}"
        time.sleep(0.05)


class Gateway:
    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="voicegate-client-"))
        self.webhooks = []
        self.processes = []
        webhooks = self.webhooks

        class Hook(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhooks.append((dict(self.headers), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        threading.Thread(target=self.hook.serve_forever, daemon=True).start()
        self.port, sandbox_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.sandbox_url = f"http://127.0.0.1:{sandbox_port}"
        (self.folder / "config.toml").write_text(
            f"""
[server]
listen = "127.0.0.1:{self.port}"
public_url = "{self.url}"
[storage]
database = "sqlite://{self.folder}/voicegate.db"
media = "{self.folder}/media"
[fetch]
allow_http = true
allow_networks = ["127.0.0.0/8"]
[tenants.a]
api_keys = ["{KEY}"]
route = ["imessage"]
webhook = {{ url = "http://127.0.0.1:{self.hook.server_port}/hooks", secrets = {json.dumps(SECRETS)} }}
[tenants.a.connections.imessage]
provider = "linq"
base_url = "{self.sandbox_url}/linq"
token = "sandbox-linq-token"
[tenants.a.connections.whatsapp]
provider = "wawp"
base_url = "{self.sandbox_url}/wawp"
instance_id = "SANDBOX00001"
access_token = "sandbox-wawp-token"
[tenants.a.connections.waha]
provider = "waha"
base_url = "{self.sandbox_url}/waha"
api_key = "sandbox-waha-key"
webhook_secret = "{CALLBACK_SECRET}"
[tenants.a.speech.anna]
kind = "openai"
base_url = "{self.sandbox_url}/openai"
api_key = "sandbox-openai-key"
"""
        )
        try:
            self._run("sandbox", "--listen", f"127.0.0.1:{sandbox_port}")
            self.serve()
            eventually("the sandbox", lambda: answers(f"{self.sandbox_url}/sandbox/ledger"))
            registration = self._run("callbacks", "--config", str(self.folder / "config.toml"), "register", "waha")
            assert registration.wait(60) == 0, (self.folder / "log").read_text()
        except BaseException:
            self.stop()
            raise

    def _run(self, *arguments):
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen([EXECUTABLE, *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def serve(self) -> None:
        self.process = self._run("serve", "--config", str(self.folder / "config.toml"))

        def ready():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            return answers(f"{self.url}/readyz")

        eventually("the gateway is ready", ready, 180)

    def kill(self) -> None:
        """Ends the gateway without any cleanup, as a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.hook.shutdown()
        self.hook.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def fault(self, action, provider="linq", operation="voicememo") -> None:
        """The next answer of a server: of the provider to a request that makes a note visible, unless another one is named."""
        self._order("faults", {"provider": provider, "operation": operation, "action": action}).close()

    def say(self, sender):
        """A person sends a voice note to the account of the connection `waha`. Returns the message."""
        audio = base64.b64encode(RECORDING.read_bytes()).decode()
        with self._order("inbound", {"provider": "waha", "from": sender, "sender_name": "Ann", "audio": audio}) as answer:
            return json.load(answer)

    def ledger(self):
        """The messages that people have received."""
        return get(f"{self.sandbox_url}/sandbox/ledger")["items"]

    def requests(self):
        """The requests that the emulated servers have received."""
        return get(f"{self.sandbox_url}/sandbox/requests")["items"]

    def _order(self, what, order):
        request = urllib.request.Request(
            f"{self.sandbox_url}/sandbox/{what}", json.dumps(order).encode(), {"Content-Type": "application/json"}
        )
        return urllib.request.urlopen(request, timeout=30)


class BrokenWay:
    """A way to the gateway that breaks: it drops the answers to the first `drop` requests whose head begins with `head`."""

    def __init__(self, port: int, head: bytes, drop: int) -> None:
        self.requests: list[bytes] = []
        self._port, self._head, self._drop = port, head, drop
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as gateway:
            first = client.recv(1 << 16)
            ours = first.startswith(self._head)
            drops = ours and len(self.requests) < self._drop
            if ours:
                self.requests.append(first.split(b"\r\n\r\n")[0])
            gateway.sendall(first)

            def forward() -> None:
                try:
                    while piece := client.recv(1 << 16):
                        gateway.sendall(piece)
                except OSError:
                    pass

            threading.Thread(target=forward, daemon=True).start()
            try:
                while piece := gateway.recv(1 << 16):
                    if drops:  # The gateway has answered, so it has done what it was asked for.
                        break
                    client.sendall(piece)
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.close()


class Scripted:
    """A server that gives these answers, one after the other: status, headers and body."""

    def __init__(self, *answers) -> None:
        self.requests = requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                requests.append((time.monotonic(), dict(self.headers)))
                status, headers, body = answers[min(len(requests), len(answers)) - 1]
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
