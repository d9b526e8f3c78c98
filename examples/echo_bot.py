#!/usr/bin/env python3
"""A bot that answers every voice note with a spoken one. It needs Python 3.9 and nothing else:

    VOICEGATE_URL=http://127.0.0.1:8080 VOICEGATE_API_KEY=... python3 examples/echo_bot.py

It says what it heard, in the person's own voice. With VOICEGATE_SPEECH=NAME it speaks a sentence of its own, made by the
tenant's speech service of that name. Stop it with Ctrl-C.
"""
import json
import os
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

GATEWAY, KEY = os.environ["VOICEGATE_URL"].rstrip("/"), os.environ["VOICEGATE_API_KEY"]
SPEECH = os.environ.get("VOICEGATE_SPEECH")


def call(path, headers, body=None):
    return urlopen(Request(GATEWAY + path, body, {"Authorization": f"Bearer {KEY}", **headers}), timeout=90)


def answer(note):
    # The same key for the same note: an event that comes twice is answered once.
    headers = {"Idempotency-Key": f"echo-{note['id']}", "Content-Type": "application/octet-stream"}
    if SPEECH:
        words = "I could not hear that." if note["status"] == "failed" else "I heard you."
        body = {"reply_to": note["id"], "audio": {"speech": {"text": words, "with": SPEECH}}}
        call("/voice", {**headers, "Content-Type": "application/json"}, json.dumps(body).encode())
    elif note["status"] == "received":
        call(f"/voice?reply_to={note['id']}", headers, call(note["audio"]["native"]["url"], {}).read())


event, done = "", {}
while True:
    try:
        stream = call("/events", done)
        print("listening", flush=True)
        for line in stream:
            field, _, value = line.decode().rstrip("\r\n").partition(": ")
            if field == "id":
                event = value
            elif field == "data" and json.loads(value).get("type") == "voice.received":
                print("heard", json.loads(value)["data"]["id"], flush=True)
                answer(json.loads(value)["data"])
            elif not line.strip() and event:
                done = {"Last-Event-ID": event}
    except HTTPError as refused:
        print("refused:", refused.read().decode(), flush=True)
        done = {"Last-Event-ID": event} if event and refused.code < 500 else done
    except OSError as broken:
        print("trying again:", broken, flush=True)
    time.sleep(2)
