"""Client for voicegate, the gateway through which chatbots send voice notes."""

from ._body import AudioInput, BodyForm
from ._events import EventStream
from .aio import AsyncEventStream, AsyncVoicegate
from .client import Voicegate
from .errors import ConnectionFailed, ProblemError, UnexpectedAnswer, VoicegateError, WebhookVerificationError
from .webhooks import verify_webhook

__all__ = [
    "AsyncEventStream",
    "AsyncVoicegate",
    "AudioInput",
    "BodyForm",
    "ConnectionFailed",
    "EventStream",
    "ProblemError",
    "UnexpectedAnswer",
    "Voicegate",
    "VoicegateError",
    "WebhookVerificationError",
    "verify_webhook",
]
