"""The shapes of answers and fields. They are plain dictionaries at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from .generated.models import *  # noqa: F403

class Event(TypedDict):
    """What happened. `data` is the note as it was at that moment: a `VoiceNote`; with `voice.received` and
    `voice.transcribed` a `ReceivedNote`, and with `webhook.paused` a `PausedWebhook`."""

    type: str
    timestamp: str
    traceparent: NotRequired[str]
    data: Any


class WebhookEvent(Event):
    """An event that was posted to a webhook."""

    id: str
    """The same however often the event is delivered."""


@dataclass(frozen=True)
class AudioFile:
    """A file of the gateway."""

    content: bytes
    type: str
    """Such as `audio/ogg; codecs=opus`."""
    filename: str | None


@dataclass(frozen=True)
class Rendered:
    """Audio as it would be sent."""

    content: bytes
    type: str
    duration_ms: int
    waveform: list[int]
    """64 values from 0 to 100."""
    work: str
    """`none`, `remuxed` or `transcoded`."""
    checks: list[str]
    etag: str | None
