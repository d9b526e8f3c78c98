"""Requests to the gateway, and their repetition.

The standard library is enough for this, so that a bot gets no further packages. Each request has a connection of its own:
beside the seconds that a voice note takes, that costs nothing, and no request meets a connection that is closing.
"""

from __future__ import annotations

import email.message
import http.client
import json
import random
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from .errors import ConnectionFailed, ProblemError, UnexpectedAnswer, VoicegateError

T = TypeVar("T")

FIRST_PAUSE = 0.5
"""Seconds before the first repetition; each further one is twice as long."""
LONGEST_PAUSE = 8.0


@dataclass
class Call:
    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    repeat: Literal["always", "refused"] = "always"
    """`always`: the request changes nothing, or the gateway recognizes the repetition. `refused`: it is repeated only if it
    surely had no effect, because the gateway said so or was never reached."""
    patience: float = 0
    """The seconds that the gateway was asked to wait before it answers."""
    idempotency_key: str | None = None
    timeout: float | None = None


@dataclass
class Answer:
    headers: email.message.Message
    body: bytes


class Transport:
    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout: float,
        retries: int,
        max_retry_after: float,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        self._url = url
        self._key = key
        self._timeout = timeout
        self._retries = retries
        self._max_retry_after = max_retry_after
        # Without a handler of redirects, since one would take the key to another host.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            _Http(),
            _Https(ssl_context or ssl.create_default_context()),
        ):
            self._opener.add_handler(handler)

    def json(self, call: Call) -> Any:
        """The answer of a call as JSON."""
        return self.repeated(call, lambda: self._json(call))

    def answer(self, call: Call) -> Answer:
        """The answer of a call."""
        return self.repeated(call, lambda: self._answer(call))

    def repeated(self, call: Call, once: Callable[[], T]) -> T:
        """Does something for a call until it succeeds, or repeating it is of no use."""
        attempt = 0
        while True:
            try:
                return once()
            except VoicegateError as error:
                error.idempotency_key = call.idempotency_key
                pause = pause_after(error, call.repeat, attempt) if attempt < self._retries else None
                if pause is None or pause > self._max_retry_after:
                    raise
            time.sleep(pause)
            attempt += 1

    def open(self, call: Call, timeout: float) -> http.client.HTTPResponse:
        """Makes one request and returns the answer as soon as its headers are there."""
        query = {name: value for name, value in call.query.items() if value is not None}
        url = self._url + call.path + ("?" + urllib.parse.urlencode(query) if query else "")
        headers = {"User-Agent": "voicegate-python", **call.headers, "Authorization": "Bearer " + self._key}
        if call.idempotency_key is not None:
            headers["Idempotency-Key"] = call.idempotency_key
        request = urllib.request.Request(url, data=call.body, headers=headers, method=call.method)
        try:
            answer = self._opener.open(request, timeout=timeout)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(error, timeout) from error
        assert isinstance(answer, http.client.HTTPResponse)
        if 200 <= answer.status < 300:
            return answer
        with answer:
            raise _refusal(answer, timeout)

    def _answer(self, call: Call) -> Answer:
        timeout = (self._timeout if call.timeout is None else call.timeout) + call.patience
        with self.open(call, timeout) as answer:
            return Answer(answer.headers, _read(answer, timeout))

    def _json(self, call: Call) -> Any:
        timeout = (self._timeout if call.timeout is None else call.timeout) + call.patience
        with self.open(call, timeout) as answer:
            body = _read(answer, timeout)
            try:
                return json.loads(body)
            except ValueError:
                raise UnexpectedAnswer(answer.status) from None


class _Connection(http.client.HTTPConnection):
    """Reads the answer also where the gateway gave it before it had read the whole request, as it does for large audio."""

    def send(self, data: Any) -> None:
        try:
            super().send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # if there is no answer either, reading it fails


class _SecureConnection(_Connection, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._ours = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_SecureConnection, req, context=self._ours)


def _read(answer: http.client.HTTPResponse, timeout: float) -> bytes:
    try:
        return answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(error, timeout) from error


def _unreachable(error: Exception, timeout: float) -> ConnectionFailed:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return ConnectionFailed(f"no answer within {timeout:g} s")
    return ConnectionFailed("the gateway cannot be reached, or the connection broke")


def _refusal(answer: http.client.HTTPResponse, timeout: float) -> VoicegateError:
    if answer.headers.get_content_type() != "application/problem+json":
        return UnexpectedAnswer(answer.status)
    try:
        problem = json.loads(_read(answer, timeout))
    except ValueError:
        return UnexpectedAnswer(answer.status)
    retry_after = answer.headers.get("Retry-After", "")
    return ProblemError.of(problem, float(retry_after) if retry_after.isdecimal() else None)


def pause_after(error: VoicegateError, repeat: str, attempt: int) -> float | None:
    """The seconds to wait before a repetition; `None` if repeating is of no use, or not safe."""
    pause: float = min(FIRST_PAUSE * 2.0**attempt, LONGEST_PAUSE) * random.uniform(0.75, 1.25)
    if isinstance(error, ProblemError):
        nothing_done = error.status in (429, 503)
        if not nothing_done and (error.status < 500 or repeat != "always"):
            return None
        return max(pause, error.retry_after or 0.0)
    if isinstance(error, UnexpectedAnswer):
        return pause if repeat == "always" else None
    if isinstance(error, ConnectionFailed):
        return pause if repeat == "always" or _never_reached(error.__cause__) else None
    return None


def _never_reached(error: BaseException | None) -> bool:
    """Whether the connection was never made."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(reason, (ConnectionRefusedError, socket.gaierror))
