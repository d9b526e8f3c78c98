"""The same calls for asyncio. Each runs in a thread, of which a client has at most `threads`."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from . import models
from ._events import EventStream
from .client import Voicegate

P = ParamSpec("P")
T = TypeVar("T")


def _awaitable(
    method: Callable[Concatenate[Voicegate, P], T],
) -> Callable[Concatenate[AsyncVoicegate, P], Coroutine[Any, Any, T]]:
    @functools.wraps(method)
    async def call(self: AsyncVoicegate, /, *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._places:
            return await _in_thread(functools.partial(method, self._client, *args, **kwargs))

    return call


def _iterated(
    method: Callable[Concatenate[Voicegate, P], Iterator[T]],
) -> Callable[Concatenate[AsyncVoicegate, P], AsyncIterator[T]]:
    @functools.wraps(method)
    async def items(self: AsyncVoicegate, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        iterator = method(self._client, *args, **kwargs)
        end = object()
        while (item := await _in_thread(lambda: next(iterator, end))) is not end:
            yield item  # type: ignore[misc]

    return items


async def _in_thread(call: Callable[[], T]) -> T:
    """Runs a call in a thread that does not keep the program from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: T | None, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = context.run(call)
        except BaseException as thrown:  # handed on to the task that waits for it
            error = thrown
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            pass  # the loop has ended, so nobody waits

    threading.Thread(target=run, name="voicegate", daemon=True).start()
    return await future


class AsyncEventStream:
    """An `EventStream` for `async with` and `async for`."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream

    @property
    def last_event_id(self) -> str | None:
        """Where the stream is: pass it as `last_event_id` to go on from here."""
        return self._stream.last_event_id

    async def __aenter__(self) -> AsyncEventStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[models.Event]:
        return self

    async def __anext__(self) -> models.Event:
        event = await _in_thread(lambda: next(self._stream, None))
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        self._stream._closed = True


class AsyncVoicegate:
    """A tenant's access to a gateway, for asyncio. The calls are those of `Voicegate`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60,
        retries: int = 4,
        max_retry_after: float = 60,
        ssl_context: ssl.SSLContext | None = None,
        threads: int = 64,
    ) -> None:
        self._client = Voicegate(
            url, key, timeout=timeout, retries=retries, max_retry_after=max_retry_after, ssl_context=ssl_context
        )
        self._places = asyncio.Semaphore(threads)
        self.url = self._client.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    send = _awaitable(Voicegate.send)
    plan = _awaitable(Voicegate.plan)
    render = _awaitable(Voicegate.render)
    get_note = _awaitable(Voicegate.get_note)
    wait_for_note = _awaitable(Voicegate.wait_for_note)
    list_notes = _awaitable(Voicegate.list_notes)
    cancel = _awaitable(Voicegate.cancel)
    resend = _awaitable(Voicegate.resend)
    erase = _awaitable(Voicegate.erase)
    get_audio = _awaitable(Voicegate.get_audio)
    presence = _awaitable(Voicegate.presence)
    upload = _awaitable(Voicegate.upload)
    get_upload = _awaitable(Voicegate.get_upload)
    delete_upload = _awaitable(Voicegate.delete_upload)
    recover = _awaitable(Voicegate.recover)
    get_task = _awaitable(Voicegate.get_task)
    wait_for_task = _awaitable(Voicegate.wait_for_task)
    event_attempts = _awaitable(Voicegate.event_attempts)
    resend_event = _awaitable(Voicegate.resend_event)
    recover_webhook = _awaitable(Voicegate.recover_webhook)
    list_received = _awaitable(Voicegate.list_received)
    get_received = _awaitable(Voicegate.get_received)
    get_received_audio = _awaitable(Voicegate.get_received_audio)
    erase_received = _awaitable(Voicegate.erase_received)
    connections = _awaitable(Voicegate.connections)
    usage = _awaitable(Voicegate.usage)

    async def events(self, *, last_event_id: str | None = None) -> AsyncEventStream:
        """Follows the events of all notes from now on, or after `last_event_id`."""
        return AsyncEventStream(await _in_thread(lambda: self._client.events(last_event_id=last_event_id)))

    async def note_events(self, id: str, *, last_event_id: str | None = None) -> AsyncEventStream:
        """Follows the events of one note, from the first one or after `last_event_id`."""
        return AsyncEventStream(await _in_thread(lambda: self._client.note_events(id, last_event_id=last_event_id)))

    notes = _iterated(Voicegate.notes)
    received = _iterated(Voicegate.received)
