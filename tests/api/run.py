"""Runs schemathesis against a gateway of its own, which sends to the sandbox.

    python tests/api/run.py VOICEGATE [ARGUMENTS FOR schemathesis run]
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
AUDIO = HERE.parent / "fixtures" / "audio" / "speech-24k.mp3"
PATIENCE = 60
# Without a limit of time, sequences of requests are tried in numbers only in a run of their own.
PHASES = [["--phases", "examples,coverage,fuzzing"], ["--phases", "stateful"]]

CONFIG = """
[server]
listen = "{listen}"
public_url = "http://{listen}"
[storage]
database = "sqlite://{folder}/voicegate.db"
media = "{folder}/media"
[fetch]
timeout = "2s"
"""

KEYS = {
    tenant["name"]: tenant["fixedHeaders"][0]["value"].removeprefix("Bearer ")
    for tenant in json.loads((HERE / "tenants.json").read_text())["auth"]
}

TENANT = """
[tenants.{name}]
api_keys = ["{key}"]
route = ["imessage", "whatsapp"]
[tenants.{name}.aliases.family]
imessage = "linq:f19ee7b8-8533-4c5c-83ec-4ef8d6d1ddbd"
whatsapp = "120363000000000000@g.us"
[tenants.{name}.speech.voice]
kind = "openai"
base_url = "http://127.0.0.1:1"
"""


def free_address() -> str:
    """Free now; nobody else on this machine takes a port that was just given out."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % listener.getsockname()[1]


@contextlib.contextmanager
def running(*command: str, **options):
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def connections(sandbox: subprocess.Popen) -> str:
    """The sandbox begins by printing the connections for a tenant `demo`, with an empty line after each."""
    lines = []
    for line in sandbox.stdout:
        lines.append(line)
        if line == "\n" and "[tenants.demo.connections.whatsapp]\n" in lines:
            return "".join(lines[lines.index("[tenants.demo.connections.imessage]\n") :])
    sys.exit("the sandbox does not start")


def wait_until_ready(url: str, gateway: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while gateway.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url + "/readyz").close()
            return
        time.sleep(0.1)
    sys.exit("the gateway does not become ready")


def link_token(url: str, sandbox_url: str) -> str:
    """The token of a signed link, as a provider gets it."""
    request = urllib.request.Request(
        url + "/voice?to=%2B15551234567&via=whatsapp",
        AUDIO.read_bytes(),
        {
            "Authorization": "Bearer " + KEYS["a"],
            "Content-Type": "audio/mpeg",
            "Prefer": "wait=30",
        },
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200, answer.read()
    with urllib.request.urlopen(sandbox_url + "/sandbox/requests") as answer:
        items = json.load(answer)["items"]
    found = re.search(r"/m/([^/\"]+)/", json.dumps(items))
    return found[1] if found else sys.exit("the sandbox has seen no link")


def main(voicegate: str, *arguments: str) -> int:
    voicegate = os.path.abspath(voicegate)
    listen, sandbox_listen = free_address(), free_address()
    url, sandbox_url = f"http://{listen}", f"http://{sandbox_listen}"
    with (
        tempfile.TemporaryDirectory() as folder,
        running(
            voicegate, "sandbox", "--listen", sandbox_listen, stdout=subprocess.PIPE, text=True
        ) as sandbox,
        open(f"{folder}/log", "w") as log,
    ):
        printed = connections(sandbox)
        config = CONFIG.format(listen=listen, folder=folder)
        for name in "ab":
            config += TENANT.format(name=name, key=KEYS[name]) + printed.replace("tenants.demo.", f"tenants.{name}.")
        pathlib.Path(f"{folder}/config.toml").write_text(config)
        with running(voicegate, "serve", "--config", f"{folder}/config.toml", stderr=log) as gateway:
            wait_until_ready(url, gateway)
            token = link_token(url, sandbox_url)
            schemathesis = pathlib.Path(sys.executable).with_name("schemathesis")
            command = [schemathesis, "--config-file", "schemathesis.toml", "run", url + "/openapi.json"]
            # Nothing is left in the source tree.
            surroundings = {
                "LINK_TOKEN": token,
                "HYPOTHESIS_STORAGE_DIRECTORY": folder,
                "PYTHONDONTWRITEBYTECODE": "1",
            }
            code = 0
            for phases in [[]] if "--phases" in arguments else PHASES:
                run = [*command, *phases, *arguments]
                code = code or subprocess.call(run, env=os.environ | surroundings, cwd=HERE)
            if gateway.poll() is not None:
                sys.exit("the gateway ended by itself")
        errors = [line for line in pathlib.Path(f"{folder}/log").read_text().splitlines() if "ERROR" in line]
        if errors:
            sys.exit("\n".join(["the gateway logged errors:", *errors]))
        return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
