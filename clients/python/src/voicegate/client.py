"""The calls of the gateway."""

from __future__ import annotations

import base64
import datetime
import math
import os
import re
import ssl
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

from . import models
from ._body import AudioInput, Body, BodyForm, body_of, json_body
from ._events import EventStream
from ._transport import Answer, Call, Transport
from .errors import ConnectionFailed, WrongState

T = TypeVar("T")
Time = datetime.datetime | str
Format = str | Mapping[str, Any]

ACTIVE = ("queued", "processing", "sending")


class Voicegate:
    """A tenant's access to a gateway. It can be used by several threads at the same time."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60,
        retries: int = 4,
        max_retry_after: float = 60,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """`url` and `key` default to `VOICEGATE_URL` and `VOICEGATE_API_KEY` of the environment.

        `timeout` is in seconds and for each try, beside `wait`; `retries` says how often a call is repeated at most, and
        `max_retry_after` how many seconds it may pause where the gateway asks for it.
        """
        address = urllib.parse.urlsplit(url or _from_environment("url", "VOICEGATE_URL"))
        plain = address.scheme in ("http", "https") and address.hostname and "@" not in address.netloc
        if not plain or address.query or address.fragment:
            raise ValueError("url: expected the address of a gateway, such as https://voicegate.example")
        self.url = address.geturl().rstrip("/")
        """The address of the gateway."""
        self._transport = Transport(
            self.url,
            key or _from_environment("key", "VOICEGATE_API_KEY"),
            timeout=timeout,
            retries=retries,
            max_retry_after=max_retry_after,
            ssl_context=ssl_context,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    # Voice notes

    def send(
        self,
        to: str | None = None,
        audio: AudioInput | None = None,
        *,
        via: str | None = None,
        convert: models.Convert | bool | None = None,
        reply_to: str | None = None,
        text: str | None = None,
        text_as: models.TextAs | None = None,
        degrade: Sequence[models.Substitute] | None = None,
        strict: bool | None = None,
        send_at: Time | None = None,
        expires_in: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        filename: str | None = None,
        mime_type: str | None = None,
        format: Format | None = None,
        wait: float | None = None,
        body: BodyForm | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> models.VoiceNote:
        """Sends a voice note, once, however often the request has to be repeated.

        The answer is a note that is stored: look at its `status`. `unknown` means that the provider may or may not have it;
        that is a status and no error. `wait` is the number of seconds, at most 60, that the answer may wait until the
        provider has accepted the note; a note that failed within that time is a `ProblemError` with its `id`. `to` may be
        left out with `reply_to="in_..."`. `idempotency_key` is a text of your own that is unique to this note, such as the
        id of your message; without it the client makes one for the call and its repetitions.
        """
        request = _note(audio, body, locals())
        seconds = math.ceil(wait or 0)
        if not 0 <= seconds <= 60:
            raise ValueError("wait: expected at most 60 seconds")
        headers = {**request.headers, "Prefer": f"wait={seconds}"} if seconds else request.headers
        call = _call("POST", "/voice", request, idempotency_key=_key(idempotency_key), patience=seconds, timeout=timeout)
        call.headers = headers
        return cast(models.VoiceNote, self._transport.json(call))

    def plan(
        self,
        to: str | None = None,
        audio: AudioInput | None = None,
        *,
        via: str | None = None,
        convert: models.Convert | bool | None = None,
        reply_to: str | None = None,
        text: str | None = None,
        text_as: models.TextAs | None = None,
        degrade: Sequence[models.Substitute] | None = None,
        strict: bool | None = None,
        filename: str | None = None,
        mime_type: str | None = None,
        format: Format | None = None,
        body: BodyForm | None = None,
        timeout: float | None = None,
    ) -> models.VoicePlan:
        """Says what would happen to a note on each connection. Nothing is sent or stored."""
        request = _note(audio, body, locals())
        return cast(models.VoicePlan, self._transport.json(_call("POST", "/voice/plan", request, timeout=timeout)))

    def render(
        self,
        audio: AudioInput,
        *,
        connection: str | None = None,
        profile: str | None = None,
        filename: str | None = None,
        mime_type: str | None = None,
        format: Format | None = None,
        body: BodyForm | None = None,
        timeout: float | None = None,
    ) -> models.Rendered:
        """The audio as it would be sent, over a connection or by a profile. Nothing is sent or stored."""
        request = body_of(audio, body, {"filename": filename, "mime_type": mime_type, "format": format})
        request.query |= {name: value for name, value in (("for", connection), ("profile", profile)) if value}
        answer = self._transport.answer(_call("POST", "/render", request, timeout=timeout))
        headers = answer.headers
        return models.Rendered(
            content=answer.body,
            type=headers.get("Content-Type", ""),
            duration_ms=int(headers.get("Voicegate-Duration-Ms", 0)),
            waveform=list(base64.b64decode(headers.get("Voicegate-Waveform", ""))),
            work=headers.get("Voicegate-Work", ""),
            checks=re.findall(r"[^ ,]+", headers.get("Voicegate-Checks", "")),
            etag=headers.get("ETag"),
        )

    def get_note(self, id: str, *, timeout: float | None = None) -> models.VoiceNote:
        return cast(models.VoiceNote, self._transport.json(Call("GET", f"/voice/{_segment(id)}", timeout=timeout)))

    def wait_for_note(self, id: str, *, within: float = 60) -> models.VoiceNote:
        """The note once it is neither queued nor being sent; `ConnectionFailed` if that takes longer."""
        return _until(lambda: self.get_note(id), lambda note: note["status"] not in ACTIVE, within)

    def list_notes(
        self,
        *,
        status: models.Status | None = None,
        to: str | None = None,
        via: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> models.VoiceNoteList:
        """One page of notes, newest first."""
        query = {"status": status, "to": to, "via": via, "limit": limit, "cursor": cursor}
        return cast(models.VoiceNoteList, self._transport.json(Call("GET", "/voice", query, timeout=timeout)))

    def notes(
        self,
        *,
        status: models.Status | None = None,
        to: str | None = None,
        via: str | None = None,
        limit: int | None = None,
    ) -> Iterator[models.VoiceNote]:
        """All notes that fit, newest first, page by page."""
        return _pages(lambda cursor: self.list_notes(status=status, to=to, via=via, limit=limit, cursor=cursor))

    def cancel(self, id: str, *, timeout: float | None = None) -> models.VoiceNote:
        """Calls off a note that is queued."""
        try:
            note = self._transport.json(Call("POST", f"/voice/{_segment(id)}/cancel", timeout=timeout))
        except WrongState:
            # A request whose answer was lost may have canceled it.
            note = self.get_note(id, timeout=timeout)
            if note["status"] != "canceled":
                raise
        return cast(models.VoiceNote, note)

    def resend(
        self, id: str, *, idempotency_key: str | None = None, timeout: float | None = None
    ) -> models.VoiceNote:
        """Sends a note again that failed, expired, was canceled or is unknown.

        An unknown note may have arrived, so a person may get it twice. The answer is a new note with `resend_of`.
        """
        path = f"/voice/{_segment(id)}/resend"
        call = Call("POST", path, idempotency_key=_key(idempotency_key), timeout=timeout)
        return cast(models.VoiceNote, self._transport.json(call))

    def erase(self, id: str, *, timeout: float | None = None) -> None:
        """Erases audio, recipient, text and metadata of a note that has ended."""
        self._transport.answer(Call("DELETE", f"/voice/{_segment(id)}", timeout=timeout))

    def get_audio(self, id: str, *, source: bool = False, timeout: float | None = None) -> models.AudioFile:
        """The audio of a note as it was sent, or with `source` as it was received."""
        query = {"source": 1} if source else {}
        return _file(self._transport.answer(Call("GET", f"/voice/{_segment(id)}/audio", query, timeout=timeout)))

    def presence(
        self,
        to: str,
        state: Literal["recording", "paused"],
        *,
        via: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Shows in a conversation that a voice note is being recorded, where the provider can."""
        request = json_body({"to": to, "state": state, "via": via})
        self._transport.answer(_call("POST", "/presence", request, timeout=timeout))

    # Uploads

    def upload(
        self,
        audio: AudioInput,
        *,
        filename: str | None = None,
        mime_type: str | None = None,
        format: Format | None = None,
        body: BodyForm | None = None,
        timeout: float | None = None,
    ) -> models.Upload:
        """Uploads audio once, to be sent by `media_id` to several people."""
        request = body_of(audio, body, {"filename": filename, "mime_type": mime_type, "format": format})
        # A repetition would make a second upload, so only what had no effect is repeated.
        call = _call("POST", "/media", request, repeat="refused", timeout=timeout)
        return cast(models.Upload, self._transport.json(call))

    def get_upload(self, id: str, *, timeout: float | None = None) -> models.Upload:
        return cast(models.Upload, self._transport.json(Call("GET", f"/media/{_segment(id)}", timeout=timeout)))

    def delete_upload(self, id: str, *, timeout: float | None = None) -> None:
        """Deletes an upload. Notes that use it are not touched."""
        self._transport.answer(Call("DELETE", f"/media/{_segment(id)}", timeout=timeout))

    # Recovery

    def recover(
        self,
        *,
        status: Sequence[models.Recoverable] | None = None,
        since: Time | None = None,
        until: Time | None = None,
        via: str | None = None,
        limit: int | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> models.Task:
        """Sends everything again that did not arrive, each note once. The answer is a task that goes on by itself."""
        request = json_body({"status": status, "since": since, "until": until, "via": via, "limit": limit})
        call = _call("POST", "/voice/recover", request, idempotency_key=_key(idempotency_key), timeout=timeout)
        return cast(models.Task, self._transport.json(call))

    def get_task(self, id: str, *, timeout: float | None = None) -> models.Task:
        return cast(models.Task, self._transport.json(Call("GET", f"/tasks/{_segment(id)}", timeout=timeout)))

    def wait_for_task(self, id: str, *, within: float = 600) -> models.Task:
        """The task once it has ended; `ConnectionFailed` if that takes longer."""
        return _until(lambda: self.get_task(id), lambda task: task["status"] != "running", within)

    # Events

    def events(self, *, last_event_id: str | None = None) -> EventStream:
        """Follows the events of all notes from now on, or after `last_event_id`. The stream is open when this returns."""
        return self._stream("/events", last_event_id)

    def note_events(self, id: str, *, last_event_id: str | None = None) -> EventStream:
        """Follows the events of one note, from the first one or after `last_event_id`."""
        return self._stream(f"/voice/{_segment(id)}/events", last_event_id)

    def event_attempts(self, id: str, *, timeout: float | None = None) -> list[models.EventAttempt]:
        """Every try to post an event to the webhook, the oldest first. `id` is the `webhook-id`."""
        answer = self._transport.json(Call("GET", f"/events/{_segment(id)}/attempts", timeout=timeout))
        return cast("list[models.EventAttempt]", answer["items"])

    def resend_event(self, id: str, *, timeout: float | None = None) -> models.EventSummary:
        """Posts an event to the webhook again, with the same `webhook-id`."""
        answer = self._transport.json(Call("POST", f"/events/{_segment(id)}/resend", timeout=timeout))
        return cast(models.EventSummary, answer)

    def recover_webhook(self, *, since: Time | None = None, timeout: float | None = None) -> models.Task:
        """Resumes the webhook, and posts everything again that it has not taken."""
        call = _call("POST", "/webhook/recover", json_body({"since": since}), timeout=timeout)
        return cast(models.Task, self._transport.json(call))

    # Voice notes that people send

    def list_received(
        self,
        *,
        sender: str | None = None,
        conversation: str | None = None,
        via: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> models.ReceivedNoteList:
        """One page of the notes that people have sent, newest first. `sender` is the `from` of a note."""
        query = {"from": sender, "conversation": conversation, "via": via, "limit": limit, "cursor": cursor}
        return cast(models.ReceivedNoteList, self._transport.json(Call("GET", "/received", query, timeout=timeout)))

    def received(
        self,
        *,
        sender: str | None = None,
        conversation: str | None = None,
        via: str | None = None,
        limit: int | None = None,
    ) -> Iterator[models.ReceivedNote]:
        """All notes that people have sent and that fit, newest first, page by page."""

        def page(cursor: str | None) -> models.ReceivedNoteList:
            return self.list_received(sender=sender, conversation=conversation, via=via, limit=limit, cursor=cursor)

        return _pages(page)

    def get_received(self, id: str, *, timeout: float | None = None) -> models.ReceivedNote:
        answer = self._transport.json(Call("GET", f"/received/{_segment(id)}", timeout=timeout))
        return cast(models.ReceivedNote, answer)

    def get_received_audio(self, id: str, *, form: str | None = None, timeout: float | None = None) -> models.AudioFile:
        """The audio of a received note, untouched (`native`, the default) or by a profile."""
        path, query = f"/received/{_segment(id)}/audio", {"as": form}
        return _file(self._transport.answer(Call("GET", path, query, timeout=timeout)))

    def erase_received(self, id: str, *, timeout: float | None = None) -> None:
        self._transport.answer(Call("DELETE", f"/received/{_segment(id)}", timeout=timeout))

    # The tenant

    def connections(self, *, timeout: float | None = None) -> models.ConnectionList:
        """The tenant's connections with their health and what they can do, and the state of its webhook."""
        return cast(models.ConnectionList, self._transport.json(Call("GET", "/connections", timeout=timeout)))

    def usage(
        self,
        *,
        since: str | None = None,
        until: str | None = None,
        by: Literal["day", "connection", "status"] | None = None,
        timeout: float | None = None,
    ) -> models.UsageList:
        """Counts notes, seconds, bytes and attempts, from the day `since` to the day `until`."""
        query = {"from": since, "to": until, "by": by}
        return cast(models.UsageList, self._transport.json(Call("GET", "/usage", query, timeout=timeout)))

    def _stream(self, path: str, last_event_id: str | None) -> EventStream:
        stream = EventStream(self._transport, path, last_event_id)
        self._transport.repeated(Call("GET", path), stream.connect)
        return stream


NOTE_FIELDS = (
    *("to", "via", "convert", "reply_to", "text", "text_as", "degrade", "strict", "send_at", "expires_in", "metadata"),
    *("filename", "mime_type", "format"),
)


def _note(audio: AudioInput | None, form: BodyForm | None, given: Mapping[str, Any]) -> Body:
    if audio is None:
        raise TypeError("audio: expected bytes, a path, an open file, or a mapping with url, data, media_id or speech")
    return body_of(audio, form, {name: given[name] for name in NOTE_FIELDS if name in given})


def _call(
    method: str,
    path: str,
    request: Body,
    *,
    repeat: Literal["always", "refused"] = "always",
    patience: float = 0,
    idempotency_key: str | None = None,
    timeout: float | None = None,
) -> Call:
    return Call(
        method,
        path,
        query=request.query,
        headers=request.headers,
        body=request.content,
        repeat=repeat,
        patience=patience,
        idempotency_key=idempotency_key,
        timeout=timeout,
    )


def _from_environment(name: str, variable: str) -> str:
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"{name}: expected it as an argument, or in the environment as {variable}")
    return value


def _key(given: str | None) -> str:
    return str(uuid.uuid4()) if given is None else given


def _segment(id: str) -> str:
    """An id as a part of a path. An id that is none would lead to another path."""
    if id in ("", ".", ".."):
        raise ValueError("id: expected an id")
    return urllib.parse.quote(id, safe="")


def _file(answer: Answer) -> models.AudioFile:
    name = re.search(r'filename="([^"]*)"', answer.headers.get("Content-Disposition", ""))
    return models.AudioFile(answer.body, answer.headers.get("Content-Type", ""), name and name[1])


def _pages(page: Callable[[str | None], Any]) -> Iterator[Any]:
    cursor = None
    while True:
        answer = page(cursor)
        yield from answer["items"]
        cursor = answer["next_cursor"]
        if cursor is None:
            return


def _until(ask: Callable[[], T], enough: Callable[[T], bool], within: float) -> T:
    """Asks again, with growing pauses, until the answer is the right one."""
    end = time.monotonic() + within
    pause = 0.1
    while True:
        answer = ask()
        if enough(answer):
            return answer
        if time.monotonic() + pause > end:
            raise ConnectionFailed(f"it is not done within {within:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 2)
