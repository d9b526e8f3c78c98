# Printed from docs/openapi.json by scripts/clients.sh.

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

AudioData: TypeAlias = str
"""
The audio itself, in base64 with either alphabet. Wrapped lines and missing padding are fine.
"""


class AudioProfile(TypedDict):
    """
    The audio that a profile accepts untouched, and the audio that it makes of any other.
    """

    accepts: list[str]
    """
    The formats that are sent untouched.
    """
    makes: str
    """
    The format that any other audio is converted to.
    """
    max_bytes: int | None
    """
    The largest size of a file. Where a form takes more, this is a budget that longer audio exceeds with a warning.
    """
    max_duration_ms: int | None
    """
    The longest audio for which an encoding fits `max_bytes`.
    """


CheckStatus: TypeAlias = Literal['ok', 'failed']


Confinement: TypeAlias = Literal['enforced', 'partial', 'unavailable']
"""
Degree to which the kernel enforces the confinement.
"""


Container: TypeAlias = Literal['mp3', 'mp4', 'adts', 'ogg', 'webm', 'matroska', 'wav', 'aiff', 'caf', 'flac', 'amr', 'pcm']
"""
The container of the audio, as found in the bytes. `pcm` is headerless samples.
"""


Convert: TypeAlias = Literal['auto', 'always', 'never', 'provider']
"""
The conversion that the caller wants.
"""


ConvertWish: TypeAlias = Convert | bool
"""
The conversion of the audio that is allowed. `auto`: the least that makes it fit, which is often nothing. `always`: encode it anew. `never`: touch no sound; refused with `convert_refused` where that is not enough. `provider`: let the provider convert, where it can. Without it: what the connection's configuration says, else `auto`.
"""


class EventAttempt(TypedDict):
    """
    One try.
    """

    at: str
    """
    When it began.
    """
    status: int | None
    """
    The HTTP status of the bot's answer. `null` if there was no answer.
    """
    took_ms: int
    error: str | None
    """
    The reason why the event was not taken. `null` if it was.
    """


class EventAttempts(TypedDict):
    """
    The tries to tell a bot of an event.
    """

    items: list[EventAttempt]
    """
    Oldest first.
    """


EventId: TypeAlias = str
"""
One event; the same however often it is delivered.
"""


EventKind: TypeAlias = Literal['voice.accepted', 'voice.sent', 'voice.delivered', 'voice.read', 'voice.played', 'voice.failed', 'voice.expired', 'voice.canceled', 'voice.unknown', 'voice.stalled', 'voice.received', 'voice.transcribed', 'webhook.paused']
"""
The kind of an event.
"""


FetchHeaders: TypeAlias = dict[str, str]
"""
Names and values of HTTP headers.
"""


class FfmpegCheck(TypedDict):
    status: CheckStatus
    reason: NotRequired[str]
    """
    Present only if the check failed.
    """
    confinement: NotRequired[Confinement]
    """
    The means that keep ffmpeg from everything except its source and its output. Absent until it has run.
    """


Form: TypeAlias = Literal['voice', 'audio', 'file', 'text']
"""
The form in which the recipient sees a note: a voice bubble, a playable audio attachment, a file to download, or text.
"""


Health: TypeAlias = Literal['ok', 'paused', 'failing', 'unchecked']
"""
The result of the last requests to the provider. `ok`: it works. `paused`: the provider asked to slow down.
`failing`: it gives no usable answer or refuses the account. `unchecked`: nothing was sent yet.
"""


Intake: TypeAlias = Literal['upload', 'url']
"""
The way in which the audio reaches the provider: the gateway uploads it, or the provider downloads it from a signed link.
"""


NoteId: TypeAlias = str
"""
A voice note. Also the idempotency key wherever a provider takes one.
"""


Outcome: TypeAlias = Literal['accepted', 'refused', 'deferred', 'unknown']
"""
The end of a try: the provider took the note, refused it for good or for now, or may or may not have it.
"""


PcmEncoding: TypeAlias = Literal['s16le', 's16be', 's24le', 's32le', 'f32le', 'u8', 'mulaw', 'alaw']
"""
Encoding of a sample: integers or floats of a number of bits, `le` with the least significant byte first, `be` with
the most significant first, or the mu-law and A-law of telephony.
"""


class PcmFormat(TypedDict):
    """
    The format of headerless samples. It is read from an object or from the name of a preset.
    """

    encoding: PcmEncoding
    sample_rate: int
    """
    Sample rate in Hz.
    """
    channels: int


PcmPreset: TypeAlias = Literal['openai-pcm', 'elevenlabs-pcm-8000', 'elevenlabs-pcm-16000', 'elevenlabs-pcm-22050', 'elevenlabs-pcm-24000', 'elevenlabs-pcm-32000', 'elevenlabs-pcm-44100', 'elevenlabs-pcm-48000', 'elevenlabs-ulaw-8000', 'elevenlabs-alaw-8000', 'azure-raw-8khz', 'azure-raw-16khz', 'azure-raw-22050hz', 'azure-raw-24khz', 'azure-raw-44100hz', 'azure-raw-48khz', 'azure-raw-8khz-mulaw', 'azure-raw-8khz-alaw', 'gemini-pcm', 'polly-pcm-8000', 'polly-pcm-16000', 'deepgram-linear16-8000', 'deepgram-linear16-16000', 'deepgram-linear16-24000', 'deepgram-linear16-32000', 'deepgram-linear16-48000', 'deepgram-mulaw-8000', 'deepgram-alaw-8000', 'cartesia-s16le-16000', 'cartesia-s16le-24000', 'cartesia-s16le-44100', 'cartesia-f32le-44100', 'cartesia-f32le-48000', 'cartesia-mulaw-8000', 'cartesia-alaw-8000']
"""
The raw format of a text-to-speech service, by name.
"""


class PlannedAudio(TypedDict):
    """
    Audio that has not been made yet.
    """

    container: Container
    codec: str
    """
    The codec, by the name that ffmpeg uses.
    """
    mime_type: str
    duration_ms: int
    size_bytes: int
    """
    Exact if the bytes are not changed, otherwise an estimate.
    """
    sample_rate: int
    """
    Sample rate in Hz. For Opus, the rate of the original that the header states.
    """
    channels: int


class PlannedForm(TypedDict):
    """
    A form in which a connection shows notes, and whether this one would be shown in it.
    """

    form: Form
    profile: str | None
    """
    The audio profile of this form. `null` if a text replaces the audio.
    """
    max_bytes: int
    """
    The largest file that the provider takes.
    """
    max_duration_ms: int | None
    """
    The longest audio that the provider takes.
    """
    caption: int | None
    """
    The longest text in characters: beside the audio, or in its place. `null` where there is none.
    """
    chosen: bool
    """
    The note would be shown in this form.
    """
    caption_fits: bool | None
    """
    Whether `text` would be shown whole in this form. `null` where it would not be shown there at all.
    """
    reason: str | None
    """
    The reason why the note cannot be shown in this form. `null` if it can.
    """
    until: str | None
    """
    When a refusal of the recipient is forgotten.
    """


PresenceState: TypeAlias = Literal['recording', 'paused']
"""
`recording`: a note is being recorded. The sign ends with a message, or by itself after 5 to 85 seconds, as the provider
has it. `paused`: it ends now.
"""


ProblemCode: TypeAlias = Literal['invalid_request', 'recipient_invalid', 'unauthorized', 'not_found', 'method_not_allowed', 'idempotency_key_reused', 'wrong_state', 'media_expired', 'audio_too_large', 'unsupported_media_type', 'audio_unreadable', 'audio_inconsistent', 'audio_unsupported', 'audio_too_long', 'audio_format_required', 'source_unreachable', 'source_forbidden', 'recipient_unsupported', 'unknown_connection', 'convert_refused', 'reply_unsupported', 'text_unsupported', 'speech_rejected', 'form_unavailable', 'conversation_closed', 'speech_unavailable', 'provider_rejected', 'provider_unauthorized', 'provider_unavailable', 'rate_limited', 'internal', 'overloaded', 'storage_full', 'quota_exceeded']
"""
A stable word for programs. A later version may add codes; the status says what kind of problem a new one is.
"""


class ProviderAnswer(TypedDict):
    """
    The provider's own description of a problem.
    """

    status: int | None
    """
    The HTTP status of the provider.
    """
    code: str | None
    """
    The provider's own code.
    """
    message: str | None
    """
    The provider's own words, without anything secret.
    """
    trace: str | None
    """
    An id for the provider's support.
    """


ReceivedEventKind: TypeAlias = Literal['voice.received', 'voice.transcribed']
"""
What happened.
"""


class ReceivedFile(TypedDict):
    """
    Facts about a piece of audio, and its address.
    """

    container: Container
    codec: str
    """
    The codec, by the name that ffmpeg uses.
    """
    mime_type: str
    """
    The exact media type of these bytes.
    """
    duration_ms: int
    """
    The length of the decoded audio.
    """
    size_bytes: int
    sample_rate: int
    """
    Sample rate in Hz. For Opus, the rate of the original that the header states.
    """
    channels: int
    sha256: str
    """
    The SHA-256 hash, in hexadecimal.
    """
    url: str
    """
    A path of this API, for which the key is needed.
    """


ReceivedForm: TypeAlias = Literal['voice', 'audio']
"""
How the person sent it.
"""


ReceivedId: TypeAlias = str
"""
A voice note that a person sent.
"""


ReceivedState: TypeAlias = Literal['received', 'failed']
"""
Whether the audio of a received note can be used.
"""


Recipient: TypeAlias = str
"""
The recipient of the note. A phone number has + and 7 to 15 digits. Other spellings are made canonical: spaces, dashes and brackets of a phone number are dropped, letters of an e-mail address become small.
"""


class RecoverWebhookRequest(TypedDict):
    """
    The events to be posted again.
    """

    since: NotRequired[str | None]
    """
    Only events from this time or later. Default: all that are kept, which is 48 hours.
    """


Recoverable: TypeAlias = Literal['failed', 'expired', 'unknown']
"""
A status of notes that can be recovered.
"""


ReplySupport: TypeAlias = Literal['none', 'messageid']
"""
Whether a note can answer an earlier message: not at all, or by the message's id.
"""


Span: TypeAlias = str
"""
Whole numbers with units `d`, `h`, `m`, `s` and `ms`, in this order; above zero.
"""


Speech = TypedDict(
    'Speech',
    {
        'text': str,
        'with': NotRequired[str | None],
        'voice': NotRequired[str | None],
        'instructions': NotRequired[str | None],
        'speed': NotRequired[float | None],
    },
)


SpokenText = TypedDict(
    'SpokenText',
    {
        'text': str,
        'with': str,
        'voice': str | None,
        'instructions': str | None,
        'speed': float | None,
    },
)


Stage: TypeAlias = Literal['request', 'fetch', 'speech', 'probe', 'encode', 'upload', 'dispatch', 'receipt']
"""
The stage of the problem: the request, the download, making speech of a text, reading, encoding or uploading the audio, sending the note, or a later report of the provider.
"""


Status: TypeAlias = Literal['queued', 'processing', 'sending', 'accepted', 'sent', 'delivered', 'read', 'played', 'failed', 'expired', 'canceled', 'unknown']
"""
The state of a note. Receipts only raise the rank.
"""


Substitute: TypeAlias = Literal['audio', 'file', 'text']
"""
A form that may replace a voice bubble: a playable audio attachment, a file to download, or the note's text.
"""


TaskId: TypeAlias = str
"""
Work that a tenant ordered and that takes longer than a request.
"""


TaskKind: TypeAlias = Literal['recover', 'webhook']
"""
The kind of a task.
"""


TaskStatus: TypeAlias = Literal['running', 'done', 'failed']
"""
The state of a task.
"""


TextAs: TypeAlias = Literal['fallback', 'caption']
"""
When a note's text is shown.
"""


TranscriptWords = TypedDict(
    'TranscriptWords',
    {
        'text': str,
        'language': str | None,
        'with': str,
        'untrusted': bool,
    },
)


UploadId: TypeAlias = str
"""
Audio that was uploaded ahead of its notes.
"""


class UsageItem(TypedDict):
    """
    The usage of one group.
    """

    key: str
    """
    The day, the name of the connection, or the status.
    """
    notes: int
    """
    How many notes were accepted. A note counts from then on, also after it was erased or removed.
    """
    seconds: float
    """
    The length of the audio as it was received. Like the bytes and attempts, it counts once the gateway has worked on
    the note.
    """
    bytes_in: int
    """
    The size of the audio as it was received.
    """
    bytes_out: int
    """
    The size of the audio as it was made for the provider.
    """
    attempts: int
    """
    How often sending was tried over a connection.
    """
    by_status: dict[str, int]
    """
    How many of the notes have each status now.
    """


UsageList = TypedDict(
    'UsageList',
    {
        'from': str,
        'to': str,
        'items': list[UsageItem],
    },
)


Verdict: TypeAlias = Literal['ok', 'warning', 'refused']
"""
`ok`: the note would be sent as requested. `warning`: it would be sent, but something would be left out. `refused`:
it would not be sent.
"""


VoiceEventKind: TypeAlias = Literal['voice.accepted', 'voice.sent', 'voice.delivered', 'voice.read', 'voice.played', 'voice.failed', 'voice.expired', 'voice.canceled', 'voice.unknown', 'voice.stalled']
"""
What happened.
"""


class Warning(TypedDict):
    """
    Something that was left out or done differently, without being an error.
    """

    code: str
    """
    `audio_inconsistent`, `reply_unsupported`, `text_dropped`, `text_shortened`, `form_degraded`, `reply_lost`,
    `waveform_lost` or `play_icon_lost`. Where a plan says why a note would be refused, the code of that problem. More
    codes may be added.
    """
    detail: str


WaveformItem: TypeAlias = int


Waveform: TypeAlias = list[WaveformItem]
"""
Loudness from 0 to 100 in 64 steps, for the bars of a voice bubble.
"""


class Webhook(TypedDict):
    """
    The webhook of a tenant.
    """

    health: Health
    """
    `paused`: it failed several times in a row and is tried again soon, or, with `paused_at`, it failed for five days.
    """
    health_detail: str | None
    """
    The reason why it is paused or failing.
    """
    failing_since: str | None
    """
    The time of the first failure after the last success.
    """
    paused_at: str | None
    """
    Set if it failed for five days: nothing is posted since then, until it is resumed.
    """


WebhookPausedEventKind: TypeAlias = Literal['webhook.paused']
"""
What happened.
"""


Work: TypeAlias = Literal['none', 'remuxed', 'transcoded']
"""
Conversion of a source, from least to most: none; the same codec packets in another container or with other headers;
a new encoding.
"""


class AudioFacts(TypedDict):
    """
    Facts about a piece of audio.
    """

    container: Container
    codec: str
    """
    The codec, by the name that ffmpeg uses.
    """
    mime_type: str
    """
    The exact media type of these bytes.
    """
    duration_ms: int
    """
    The length of the decoded audio.
    """
    size_bytes: int
    sample_rate: int
    """
    Sample rate in Hz. For Opus, the rate of the original that the header states.
    """
    channels: int
    sha256: str
    """
    The SHA-256 hash, in hexadecimal.
    """


class AudioSpoken(TypedDict):
    """
    A text that a server speaks.
    """

    speech: Speech


class AudioUploaded(TypedDict):
    """
    Audio that was uploaded before.
    """

    media_id: UploadId
    filename: NotRequired[str | None]
    """
    A hint for audio whose bytes alone do not say what it is.
    """
    mime_type: NotRequired[str | None]
    """
    Also a hint.
    """


class Check(TypedDict):
    status: CheckStatus
    reason: NotRequired[str]
    """
    Present only if the check failed.
    """


class Checks(TypedDict):
    database: Check
    media: Check
    """
    The storage for audio: a folder or a bucket.
    """
    ffmpeg: FfmpegCheck
    """
    Whether every profile could be encoded at the start.
    """
    disk: Check
    """
    Whether a file can be written and `storage.min_free` is free.
    """
    shutdown: NotRequired[Check]
    """
    Present, and failed, only when the gateway is about to stop.
    """


class ConnectionPlan(TypedDict):
    """
    The plan for one connection.
    """

    connection: str
    provider: str
    """
    The provider of the connection.
    """
    verdict: Verdict
    profile: str
    """
    The profile that the audio is judged by.
    """
    work: Work | None
    audio: PlannedAudio | None
    form: Form | None
    forms: list[PlannedForm]
    """
    Every form that the connection has, from the best to the last resort.
    """
    reasons: list[Warning]
    """
    The reasons of a refusal, or the parts of the note that would be left out.
    """


DeclaredFormat: TypeAlias = PcmPreset | PcmFormat
"""
The format of headerless samples; needed for nothing else.
"""


DeclaredFormatText: TypeAlias = PcmPreset | str
"""
The format of headerless samples; needed for nothing else.
"""


class EventSummary(TypedDict):
    """
    An event that is posted to the webhook again.
    """

    id: EventId
    type: EventKind
    timestamp: str
    """
    The time of the event.
    """
    note_id: NotRequired[NoteId]
    """
    The note that it is about, if that is one that was sent.
    """
    received_id: NotRequired[ReceivedId]
    """
    The received note that it is about, if it is one.
    """


class FormSupport(TypedDict):
    """
    A form in which a connection shows notes, and what it takes for it.
    """

    form: Form
    profile: str | None
    """
    The audio profile of this form. `null` if a text replaces the audio.
    """
    intake: Intake
    max_bytes: int
    """
    The largest file that the provider takes.
    """
    max_duration_ms: int | None
    """
    The longest audio that the provider takes.
    """
    caption: int | None
    """
    The longest text in characters: beside the audio, or in its place. `null` where there is none.
    """


class PausedWebhook(TypedDict):
    """
    A webhook to which nothing is posted any more.
    """

    paused_at: str
    detail: str
    """
    Advice: the next step.
    """
    note_id: NotRequired[NoteId]
    """
    The note that it was to be told of last, if that was one that was sent.
    """
    received_id: NotRequired[ReceivedId]
    """
    The received note that it was to be told of last, if that was one.
    """


class PresenceRequest(TypedDict):
    """
    The sign, and who sees it.
    """

    to: Recipient
    via: NotRequired[str | None]
    """
    A connection or a route. Default: the route of the tenant. The sign is shown over its first connection that has it.
    """
    state: PresenceState


class Problem(TypedDict):
    """
    A problem (RFC 9457). `code` is stable and decides the status; `detail` says what to do.
    """

    type: str
    """
    A reference to the description of this kind of problem: a relative reference (RFC 9457, section 3.1.1), since the gateway that answers also
    serves what it means.
    """
    title: str
    """
    The title, which is the same for every problem with this code.
    """
    status: int
    """
    The HTTP status that goes with the code.
    """
    detail: str
    """
    The problem in this case, and what to do about it.
    """
    code: ProblemCode
    id: NotRequired[str]
    """
    The voice note that it is about.
    """
    stage: NotRequired[Stage]
    """
    The stage in which the problem occurred.
    """
    field: NotRequired[str]
    """
    The field, parameter or header that is to blame.
    """
    retry_after: NotRequired[int]
    """
    The number of seconds to wait before trying again; also in the header `Retry-After`.
    """
    request_id: NotRequired[str]
    """
    The request that was answered with this: `X-Request-Id`. Not in a note.
    """
    provider: NotRequired[ProviderAnswer]
    """
    The provider's own words about the problem.
    """


class Readiness(TypedDict):
    """
    Whether requests can be served, and the reason if not.
    """

    status: CheckStatus
    checks: Checks


class ReceivedAudio(TypedDict):
    """
    The audio of a received note.
    """

    native: ReceivedFile
    """
    The bytes as they came.
    """
    renders: dict[str, ReceivedFile]
    """
    The audio in each profile of `inbound.renders`, by its name.
    """


class RecoverRequest(TypedDict):
    """
    The notes to be sent again. Without any field: everything that failed or expired and still has its audio.
    """

    status: NotRequired[list[Recoverable] | None]
    """
    Only notes with one of these statuses. Default: `failed` and `expired`. `unknown` has to be asked for, since
    those notes may have arrived.
    """
    since: NotRequired[str | None]
    """
    Only notes that were created at this time or later.
    """
    until: NotRequired[str | None]
    """
    Only notes that were created at this time or earlier. Default: now.
    """
    via: NotRequired[str | None]
    """
    Only notes whose connection in use is this one.
    """
    limit: NotRequired[int | None]
    """
    The most notes to be sent again, the oldest first. Notes that cannot be sent again do not count.
    """


class RenderForm(TypedDict):
    """
    Audio to render, as a file or as a text to be spoken.
    """

    convert: NotRequired[ConvertWish]
    text: NotRequired[str]
    """
    The words of the note as a text, which matter only where a text may take the place of the audio.
    """
    text_as: NotRequired[TextAs]
    degrade: NotRequired[list[Substitute] | None]
    """
    Forms that may replace a voice bubble that is not possible. Default: what the connection's configuration says.
    """
    strict: NotRequired[bool]
    """
    Refuse audio that contradicts itself, or that exceeds what a recipient is shown as a voice note.
    """
    via: NotRequired[str]
    """
    As with `POST /voice`; only the connection that `for` names.
    """
    reply_to: NotRequired[str]
    """
    As with `POST /voice`, without effect on the audio.
    """
    send_at: NotRequired[str]
    """
    As with `POST /voice`, without effect on the audio.
    """
    expires_in: NotRequired[Span]
    metadata: NotRequired[dict[str, Any]]
    """
    As with `POST /voice`, without effect on the audio.
    """
    audio: NotRequired[bytes]
    """
    The audio. Its file name and type are hints, too. Exactly one of `audio` and `speech` is given; `filename`, `mime_type` and `format` are about a file.
    """
    filename: NotRequired[str]
    """
    A hint for audio whose bytes alone do not say what it is.
    """
    mime_type: NotRequired[str]
    """
    Also a hint.
    """
    format: NotRequired[DeclaredFormatText]
    speech: NotRequired[Speech]


class SentAudio(TypedDict):
    """
    Audio as it goes to the provider.
    """

    container: Container
    codec: str
    """
    The codec, by the name that ffmpeg uses.
    """
    mime_type: str
    """
    The exact media type of these bytes.
    """
    duration_ms: int
    """
    The length of the decoded audio.
    """
    size_bytes: int
    sample_rate: int
    """
    Sample rate in Hz. For Opus, the rate of the original that the header states.
    """
    channels: int
    sha256: str
    """
    The SHA-256 hash, in hexadecimal.
    """
    profile: str
    """
    The recipe by which it was made or judged.
    """
    work: Work
    checks: list[str]
    """
    The checks that the audio passed before it was sent; none if it is the source itself.
    """


class Task(TypedDict):
    """
    Work that takes longer than a request, and how far it is.
    """

    id: TaskId
    kind: TaskKind
    status: TaskStatus
    total: int
    """
    How many were found at the start. When the task is done, it is `done`, `failed` and `skipped` together.
    """
    done: int
    """
    How many were sent again.
    """
    failed: int
    """
    How many could not be sent again.
    """
    skipped: int
    """
    How many needed no resend any more: they arrived late, were erased, or were sent again by somebody else. Known
    when the task is done.
    """
    failures: dict[str, int]
    """
    The failures, counted by the code of their problem.
    """
    waiting: Problem | None
    error: Problem | None
    created_at: str
    updated_at: str
    """
    When the counts were last brought up to date.
    """
    ended_at: str | None


class TranscriptFailure(TypedDict):
    """
    The reason why a received note has no words.
    """

    error: Problem


class Upload(TypedDict):
    """
    Audio that was uploaded before its notes are sent.
    """

    id: UploadId
    audio: AudioFacts
    waveform: Waveform
    """
    The loudness in 64 steps.
    """
    created_at: str
    expires_at: str
    """
    The time until which it can be used. Notes that use it by then keep their audio for longer.
    """


class UploadForm(TypedDict):
    """
    Audio to keep, as a file.
    """

    audio: bytes
    """
    The audio. Its file name and type are hints, too.
    """
    filename: NotRequired[str]
    """
    A hint for audio whose bytes alone do not say what it is.
    """
    mime_type: NotRequired[str]
    """
    Also a hint.
    """
    format: NotRequired[DeclaredFormatText]


class VoiceForm(TypedDict):
    """
    A voice note to send, with its audio as a file or as a text to be spoken.
    """

    to: NotRequired[Recipient]
    """
    The recipient. May be left out if `reply_to` is a received note: the note then goes to its conversation.
    """
    via: NotRequired[str]
    """
    A connection or a route. Default: the connection of the received note in `reply_to`, or else the route of the
    tenant.
    """
    convert: NotRequired[ConvertWish]
    reply_to: NotRequired[str]
    """
    The note that this one answers: the `in_` id of a received note, the `vn_` id of one that was sent, or the
    provider's own id of a message. If the provider does not
    support replies, the note is sent as a message of its own, with a warning.
    """
    text: NotRequired[str]
    """
    The words of the note as a text. `text_as` says when it is shown.
    """
    text_as: NotRequired[TextAs]
    degrade: NotRequired[list[Substitute] | None]
    """
    Forms that may replace a voice bubble that is not possible. An empty list: a voice note or nothing. Default: what the
    connection's configuration says.
    """
    strict: NotRequired[bool]
    """
    Refuse the request instead of giving a warning.
    """
    send_at: NotRequired[str]
    """
    Do not send before this time. At most one year ahead; a time in the past means at once.
    """
    expires_in: NotRequired[Span]
    metadata: NotRequired[dict[str, Any]]
    """
    Your own data, at most 4 KiB as JSON and 16 levels deep, including the object itself. It is returned in every
    answer, and its numbers keep all their digits.
    """
    audio: NotRequired[bytes]
    """
    The audio. Its file name and type are hints, too. Exactly one of `audio` and `speech` is given; `filename`, `mime_type` and `format` are about a file.
    """
    filename: NotRequired[str]
    """
    A hint for audio whose bytes alone do not say what it is.
    """
    mime_type: NotRequired[str]
    """
    Also a hint.
    """
    format: NotRequired[DeclaredFormatText]
    speech: NotRequired[Speech]


class VoicePlan(TypedDict):
    """
    The plan for a note: what would happen on each connection of its route.
    """

    audio: AudioFacts | None
    connections: list[ConnectionPlan]
    """
    The connections in the order of the route. The first that is not refused would be used.
    """


class WebhookPausedEvent(TypedDict):
    """
    A webhook to which nothing is posted any more.
    """

    type: WebhookPausedEventKind
    timestamp: str
    """
    The time of the event.
    """
    traceparent: NotRequired[str]
    """
    The place of the note in the trace of the request that created it, for a span of your own. Left out without one.
    """
    data: PausedWebhook


class Attempt(TypedDict):
    """
    One try at a provider.
    """

    n: int
    """
    Counted from 1.
    """
    connection: str
    outcome: Outcome
    at: str
    """
    When it began.
    """
    took_ms: int
    """
    Converting included, and the download where the try ended with that.
    """
    trace: str | None
    """
    The provider's own id of this try, for its support.
    """
    error: Problem | None


class AudioByUrl(TypedDict):
    """
    Audio to download.
    """

    url: str
    """
    The https address to download the audio from. Only public addresses, unless the operator allows others.
    """
    filename: NotRequired[str | None]
    """
    A hint for audio whose bytes alone do not say what it is.
    """
    mime_type: NotRequired[str | None]
    """
    Also a hint.
    """
    headers: NotRequired[FetchHeaders | None]
    format: NotRequired[DeclaredFormat | None]


class AudioInside(TypedDict):
    """
    Audio inside the request.
    """

    data: AudioData
    filename: NotRequired[str | None]
    """
    A hint for audio whose bytes alone do not say what it is.
    """
    mime_type: NotRequired[str | None]
    """
    Also a hint.
    """
    format: NotRequired[DeclaredFormat | None]


AudioSource: TypeAlias = AudioByUrl | AudioInside | AudioUploaded | AudioSpoken
"""
The audio in one of four forms, and facts about it.
"""


class Capabilities(TypedDict):
    """
    The capabilities of a connection.
    """

    profile: str
    """
    The profile for the audio.
    """
    audio: AudioProfile
    convert: Convert
    """
    The default of `convert` for requests without it.
    """
    provider_converts: bool
    """
    Whether `convert: "provider"` has an effect.
    """
    intake: Intake
    """
    The way in which the audio reaches the provider: the gateway uploads it, or the provider downloads it from a signed link.
    """
    max_bytes: int
    """
    The largest file that the provider takes.
    """
    recipients: list[str]
    """
    The kinds of recipient that it accepts.
    """
    reply: ReplySupport
    """
    Whether a note can answer an earlier message.
    """
    caption: bool
    """
    Whether `text` is shown with the note.
    """
    presence: bool
    """
    Whether it can show that a note is being recorded: `POST /presence`.
    """
    idempotent_send: bool
    """
    Whether a note with an unknown outcome can be repeated without the risk of arriving twice.
    """
    degrade: list[Form]
    """
    The forms that may replace a voice note that cannot be shown as one.
    """
    forms: list[FormSupport]
    """
    The forms in which the connection shows notes, from the best form to the last resort.
    """


class Connection(TypedDict):
    """
    One account at a provider.
    """

    name: str
    """
    The name, to be used in `via`.
    """
    provider: str
    health: Health
    health_detail: str | None
    """
    The reason why it is paused or failing.
    """
    conversations_closed_until: str | None
    """
    Until then the account may open no new conversations: notes only go to people who were written to before, or who
    wrote to this connection.
    """
    capabilities: Capabilities


class ConnectionList(TypedDict):
    """
    The tenant's connections, by name, and its webhook.
    """

    items: list[Connection]
    webhook: Webhook | None


NewAudioSource: TypeAlias = AudioByUrl | AudioInside
"""
The audio in one of two forms, and facts about it.
"""


class NoteAudio(TypedDict):
    """
    Facts about the audio of a note. All of them are measured on the bytes, never taken from the caller.
    """

    source: AudioFacts | None
    sent: SentAudio | None
    speech: SpokenText | None
    waveform: Waveform | None


class RenderRequest(TypedDict):
    """
    Audio to render.
    """

    convert: NotRequired[ConvertWish | None]
    text: NotRequired[str | None]
    """
    The words of the note as a text, which matter only where a text may take the place of the audio.
    """
    text_as: NotRequired[TextAs | None]
    degrade: NotRequired[list[Substitute] | None]
    """
    Forms that may replace a voice bubble that is not possible. Default: what the connection's configuration says.
    """
    strict: NotRequired[bool | None]
    """
    Refuse audio that contradicts itself, or that exceeds what a recipient is shown as a voice note.
    """
    via: NotRequired[str | None]
    """
    As with `POST /voice`; only the connection that `for` names.
    """
    reply_to: NotRequired[str | None]
    """
    As with `POST /voice`, without effect on the audio.
    """
    send_at: NotRequired[str | None]
    """
    As with `POST /voice`, without effect on the audio.
    """
    expires_in: NotRequired[Span | None]
    metadata: NotRequired[dict[str, Any] | None]
    """
    As with `POST /voice`, without effect on the audio.
    """
    audio: AudioSource


class RenderedFacts(TypedDict):
    """
    Facts about rendered audio.
    """

    source: AudioFacts
    """
    The audio of the request.
    """
    sent: SentAudio
    """
    The audio that would be sent.
    """
    waveform: Waveform
    """
    The loudness in 64 steps.
    """
    checks: list[str]
    """
    The checks that the audio passed; none if it is the source itself.
    """


Transcript: TypeAlias = TranscriptWords | TranscriptFailure
"""
The words of a received note, or the reason why there are none.
"""


class UploadRequest(TypedDict):
    """
    Audio to keep.
    """

    audio: NewAudioSource


class VoiceNote(TypedDict):
    """
    One audio for one recipient, and its status.
    """

    id: NoteId
    status: Status
    to: str | None
    """
    The recipient, in canonical spelling. `null` once the note was erased.
    """
    via: str
    """
    The connection in use.
    """
    provider: str
    """
    The provider of that connection.
    """
    provider_message_id: str | None
    """
    The provider's id of the message that the recipient sees.
    """
    reply_to: str | None
    """
    The `reply_to` of the request; `null` if no connection of the route supports replies.
    """
    resend_of: NoteId | None
    form: Form | None
    audio: NoteAudio
    attempts: list[Attempt]
    """
    The first attempt, and the most recent of the others.
    """
    warnings: list[Warning]
    """
    Everything that was left out or done differently without an error.
    """
    stalled: bool
    """
    Whether the note was accepted and no receipt came in time.
    """
    next_attempt_at: str | None
    """
    The time of the next attempt. It has passed while a note waits behind an earlier one to the same recipient.
    """
    error: Problem | None
    metadata: dict[str, Any]
    """
    The `metadata` of the request.
    """
    created_at: str
    updated_at: str
    accepted_at: str | None
    """
    When the provider accepted the note.
    """
    sent_at: str | None
    """
    When the provider reported it as sent. Like all times below, `null` if the provider does not report this.
    """
    delivered_at: str | None
    read_at: str | None
    played_at: str | None


class VoiceNoteList(TypedDict):
    """
    A page of notes, newest first.
    """

    items: list[VoiceNote]
    next_cursor: NoteId | None


class VoiceRequest(TypedDict):
    """
    A voice note to send.
    """

    to: NotRequired[Recipient]
    """
    The recipient. May be left out if `reply_to` is a received note: the note then goes to its conversation.
    """
    via: NotRequired[str | None]
    """
    A connection or a route. Default: the connection of the received note in `reply_to`, or else the route of the
    tenant.
    """
    convert: NotRequired[ConvertWish | None]
    reply_to: NotRequired[str | None]
    """
    The note that this one answers: the `in_` id of a received note, the `vn_` id of one that was sent, or the
    provider's own id of a message. If the provider does not
    support replies, the note is sent as a message of its own, with a warning.
    """
    text: NotRequired[str | None]
    """
    The words of the note as a text. `text_as` says when it is shown.
    """
    text_as: NotRequired[TextAs | None]
    degrade: NotRequired[list[Substitute] | None]
    """
    Forms that may replace a voice bubble that is not possible. An empty list: a voice note or nothing. Default: what the
    connection's configuration says.
    """
    strict: NotRequired[bool | None]
    """
    Refuse the request instead of giving a warning.
    """
    send_at: NotRequired[str | None]
    """
    Do not send before this time. At most one year ahead; a time in the past means at once.
    """
    expires_in: NotRequired[Span | None]
    metadata: NotRequired[dict[str, Any] | None]
    """
    Your own data, at most 4 KiB as JSON and 16 levels deep, including the object itself. It is returned in every
    answer, and its numbers keep all their digits.
    """
    audio: AudioSource


ReceivedNote = TypedDict(
    'ReceivedNote',
    {
        'id': ReceivedId,
        'status': ReceivedState,
        'from': str,
        'conversation': str,
        'group': bool,
        'sender_name': str | None,
        'via': str,
        'provider': str,
        'provider_message_id': str,
        'reply_to': str | None,
        'sent_at': str,
        'received_at': str,
        'form': ReceivedForm,
        'audio': ReceivedAudio | None,
        'waveform': Waveform | None,
        'transcript': Transcript | None,
        'error': Problem | None,
    },
)


class ReceivedNoteList(TypedDict):
    """
    A page of received notes, newest first.
    """

    items: list[ReceivedNote]
    next_cursor: ReceivedId | None


class RenderedAudio(TypedDict):
    """
    Rendered audio with its facts.
    """

    audio: RenderedFacts
    data: str
    """
    The audio in base64.
    """


class VoiceEvent(TypedDict):
    """
    A change of a voice note, with the note as it was at that moment.
    """

    type: VoiceEventKind
    timestamp: str
    """
    The time of the event.
    """
    traceparent: NotRequired[str]
    """
    The place of the note in the trace of the request that created it, for a span of your own. Left out without one.
    """
    data: VoiceNote


class ReceivedEvent(TypedDict):
    """
    A voice note that a person sent, or the words of one.
    """

    type: ReceivedEventKind
    timestamp: str
    """
    The time of the event.
    """
    traceparent: NotRequired[str]
    """
    The place of the note in the trace of the request that created it, for a span of your own. Left out without one.
    """
    data: ReceivedNote
