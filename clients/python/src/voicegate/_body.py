"""The three forms of a request with audio: JSON, a form, and the audio itself."""

from __future__ import annotations

import base64
import datetime
import json
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any, BinaryIO, Literal

AudioInput = bytes | bytearray | memoryview | os.PathLike[str] | BinaryIO | Mapping[str, Any]
"""Audio: its bytes, a path, an open file, or a mapping with `url`, `data` (base64), `media_id` or `speech`."""

BodyForm = Literal["multipart", "raw", "json"]
"""How bytes are sent. `multipart` is the default; `raw` puts the fields into the address, where proxies log them; `json`
makes the audio a third larger."""

HINTS = ("filename", "mime_type", "format")
"""The fields that describe the audio. In JSON they are inside `audio`."""

AUDIBLE = ("audio/", "video/", "application/ogg", "application/octet-stream")
"""Types that a body of audio may have. The bytes decide what it is."""


class Body:
    """The body of a request, with the query and the headers that belong to it."""

    def __init__(self, content: bytes, content_type: str, query: Mapping[str, str] | None = None) -> None:
        self.content = content
        self.headers = {"Content-Type": content_type}
        self.query = dict(query or {})


def body_of(audio: AudioInput, form: BodyForm | None, fields: Mapping[str, Any]) -> Body:
    given = {name: value for name, value in fields.items() if value is not None}
    if isinstance(audio, Mapping):
        if form not in (None, "json"):
            raise TypeError(f"body={form!r} needs the bytes of the audio")
        return _json(audio, given)
    content, name = _content(audio)
    if form == "json":
        return _json({"data": base64.b64encode(content).decode("ascii")}, given)
    name = given.pop("filename", name)
    mime_type = given.pop("mime_type", None)
    texts = {field: _text(value) for field, value in given.items()}
    if form == "raw":
        if name is not None:
            texts["filename"] = name
        if mime_type is not None:
            texts["mime_type"] = mime_type
        audible = mime_type is not None and mime_type.startswith(AUDIBLE)
        return Body(content, mime_type if mime_type and audible else "application/octet-stream", texts)
    return _multipart(content, name or "audio", mime_type or "application/octet-stream", texts)


def json_body(fields: Mapping[str, Any]) -> Body:
    """Fields as JSON, without those that are not set."""
    given = {name: value for name, value in fields.items() if value is not None}
    return Body(json.dumps(given, default=_text).encode(), "application/json")


def _content(audio: Any) -> tuple[bytes, str | None]:
    if isinstance(audio, str):
        raise TypeError("audio: a str may be an address or a path; write {'url': ...} or pathlib.Path(...)")
    if isinstance(audio, os.PathLike):
        path = pathlib.Path(audio)
        return path.read_bytes(), path.name
    if isinstance(audio, (bytes, bytearray, memoryview)):
        return bytes(audio), None
    if not hasattr(audio, "read"):
        raise TypeError("audio: expected bytes, a path, an open file, or a mapping with url, data, media_id or speech")
    content = audio.read()
    if not isinstance(content, bytes):
        raise TypeError("audio: open the file in binary mode")
    name = getattr(audio, "name", None)
    return content, os.path.basename(name) if isinstance(name, str) else None


def _json(source: Mapping[str, Any], given: Mapping[str, Any]) -> Body:
    audio = {**source, **{name: given[name] for name in HINTS if name in given}}
    return json_body({**{name: value for name, value in given.items() if name not in HINTS}, "audio": audio})


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError("a time needs a time zone, such as datetime.timezone.utc")
        return value.isoformat()
    if isinstance(value, (bool, Mapping, list, tuple)):
        return json.dumps(value)
    return str(value)


def _multipart(content: bytes, filename: str, mime_type: str, fields: Mapping[str, str]) -> Body:
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    for name, value in fields.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
        pieces += [head.encode(), value.encode(), b"\r\n"]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="audio"; filename="{_quoted(filename)}"\r\n'
        f"Content-Type: {_quoted(mime_type)}\r\n\r\n"
    )
    pieces += [head.encode(), content, f"\r\n--{boundary}--\r\n".encode()]
    return Body(b"".join(pieces), f"multipart/form-data; boundary={boundary}")


def _quoted(text: str) -> str:
    """As the HTML standard writes names of a form."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
