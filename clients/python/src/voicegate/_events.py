"""Streams of events that reconnect by themselves and miss nothing."""

from __future__ import annotations

import http.client
import json
import random
import re
import time
from collections.abc import Iterator
from types import TracebackType
from typing import cast

from ._transport import Call, Transport
from .errors import ConnectionFailed, ProblemError, UnexpectedAnswer, VoicegateError
from .models import Event

SILENCE = 45.0
"""The gateway sends a comment every 15 seconds, so a longer silence means that the connection is dead."""

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0


class EventStream:
    """Events as they happen.

    When the connection breaks, or the gateway restarts, the stream connects again and goes on after the last event that it
    has returned. Use it in a `with` statement, or call `close`.
    """

    def __init__(self, transport: Transport, path: str, last_event_id: str | None) -> None:
        self._transport = transport
        self._path = path
        self._closed = False
        self._answer: http.client.HTTPResponse | None = None
        self._parser = Parser()
        self._ready: list[tuple[str | None, Event | None]] = []
        self._failures = 0
        self.last_event_id = last_event_id
        """Where the stream is: pass it as `last_event_id` to go on from here, for instance in another process. An opaque
        text, which is not the id of an event."""

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the stream, and the loop over it at its next event or comment."""
        self._closed = True
        self._hang_up()

    def connect(self) -> None:
        headers = {"Accept": "text/event-stream"}
        if self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        self._parser, self._ready = Parser(), []
        self._answer = self._transport.open(Call("GET", self._path, headers=headers), SILENCE)

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while not self._closed:
            try:
                event = self._next()
            except VoicegateError as error:
                self._hang_up()
                if not _may_reconnect(error):
                    raise
                self._pause(error)
            else:
                if event is not None:
                    self._failures = 0
                    return event
        raise StopIteration

    def _next(self) -> Event | None:
        while self._ready:
            position, event = self._ready.pop(0)
            self.last_event_id = position or self.last_event_id
            if event is not None:
                return event
        if self._answer is None:
            self.connect()
        answer = self._answer
        try:
            piece = answer.read1(1 << 16) if answer is not None else b""
        except (OSError, ValueError, AttributeError, http.client.HTTPException) as error:
            # Another thread may have closed it.
            raise ConnectionFailed("the stream broke") from error
        if piece == b"":
            raise ConnectionFailed("the stream ended")
        self._ready = list(self._parser.feed(piece))
        return None

    def _pause(self, error: VoicegateError) -> None:
        pause = min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE) * random.uniform(0.75, 1.25)
        self._failures = min(self._failures + 1, 10)
        if isinstance(error, ProblemError):
            pause = max(pause, error.retry_after or 0)
        if not self._closed:
            time.sleep(pause)

    def _hang_up(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()


def _may_reconnect(error: VoicegateError) -> bool:
    if isinstance(error, ProblemError):
        return error.status == 429 or error.status >= 500
    return not isinstance(error, UnexpectedAnswer) or error.status >= 500


class Parser:
    """Reads server-sent events.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, piece: bytes) -> Iterator[tuple[str | None, Event | None]]:
        # A carriage return at the end may be half of a line break.
        *lines, self._rest = re.split(rb"\r\n|\n|\r(?!\Z)", self._rest + piece)
        for line in lines:
            if line == b"":
                data = "\n".join(self._data)
                if data or self._id is not None:
                    yield self._id, cast(Event, json.loads(data)) if data else None
                self._data, self._id = [], None
                continue
            name, _, value = line.decode("utf-8", "replace").partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                self._data.append(value)
            elif name == "id" and "\0" not in value:
                self._id = value


