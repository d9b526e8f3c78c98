"""What the OpenAPI document says in words, or by the name of a format, told to schemathesis in code."""

import base64
import datetime
import json
import os
import pathlib

import schemathesis
from hypothesis import strategies as st
from schemathesis.transport.serialization import Binary

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures" / "audio"
SOUND = [(FIXTURES / name).read_bytes() for name in ("speech-24k.mp3", "recorder-wideband.ogg", "speech.amr")]
RAW = ("audio/*", "application/octet-stream")
FACTS_ABOUT_A_FILE = ("filename", "mime_type", "format")

# Mostly sound, so that notes come to be and what follows can be tested; and anything else.
audio = st.sampled_from(SOUND) | st.sampled_from(SOUND) | st.binary(max_size=200)
encoded = audio.map(lambda sound: base64.b64encode(sound).decode())
schemathesis.openapi.format("binary", audio.map(Binary))
schemathesis.openapi.format("byte", encoded)
schemathesis.openapi.format("data-uri", encoded.map(lambda text: "data:audio/mpeg;base64," + text))

# Absolute, and nowhere: nothing is to be downloaded in this test.
schemathesis.openapi.format(
    "uri",
    st.builds(
        "{}://{}/{}".format,
        st.sampled_from(["http", "https", "HTTPS"]),
        st.sampled_from(["audio.invalid", "10.0.0.1", "127.0.0.1:1", "[::1]", "localhost"]),
        st.text("abc/?&=%20#", max_size=12),
    ),
)

# `send_at`: the past means at once, and the future ends after a year.
now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None, microsecond=0)
schemathesis.openapi.format(
    "date-time",
    st.datetimes(now - datetime.timedelta(days=9999), now + datetime.timedelta(days=364)).map(
        lambda time: time.isoformat() + "Z"
    ),
)

# `format` in forms and queries: an object as text.
schemathesis.openapi.format(
    "pcm-format",
    st.builds(
        lambda encoding, rate, channels: json.dumps(
            {"encoding": encoding, "sample_rate": rate, "channels": channels}
        ),
        st.sampled_from(["s16le", "s16be", "s24le", "s32le", "f32le", "u8", "mulaw", "alaw"]),
        st.integers(4000, 192_000),
        st.integers(1, 8),
    ),
)


NOTES = ("sendVoice", "planVoice")
RENDER = "renderAudio"
POSTS = (*NOTES, "uploadAudio", RENDER)


def is_valid(case) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive


@schemathesis.hook
def filter_case(context, case):
    """What a valid request names has to exist. Nothing does yet, but for one alias."""
    if not is_valid(case) or case.operation.definition.raw.get("operationId") not in (*NOTES, "showPresence"):
        return True
    for fields in (case.query, case.body):
        if isinstance(fields, dict):
            to = str(fields.get("to", ""))
            if to.startswith("alias:") and to != "alias:family":
                return False
    return True


def without_answer(fields):
    """The fields without a `reply_to` that names a note of the gateway."""
    if not isinstance(fields, dict) or not str(fields.get("reply_to", "")).startswith(("vn_", "in_")):
        return fields
    return {name: value for name, value in fields.items() if name != "reply_to"}


def with_one_audio(fields, media_type):
    """The fields with either a file or a text to be spoken by the only speech server."""
    if media_type == "multipart/form-data":
        if "audio" in fields:
            fields = {name: value for name, value in fields.items() if name != "speech"}
        elif "speech" not in fields:
            fields = {**fields, "audio": Binary(SOUND[0])}
        if "speech" in fields:
            fields = {name: value for name, value in fields.items() if name not in FACTS_ABOUT_A_FILE}
    for place in (fields, fields.get("audio")):
        if isinstance(place, dict) and isinstance(place.get("speech"), dict):
            place["speech"]["with"] = "voice"
    return fields


@schemathesis.hook
def before_call(context, case, kwargs):
    """The rule for which OpenAPI has no words: fields are in the query where the body is the audio itself, and nowhere
    else. It is applied to valid requests only; what is to be refused stays as it is."""
    if "wait" in (case.headers or {}).get("Prefer", ""):
        case.headers["Prefer"] = "wait=1"
    if not is_valid(case):
        return
    make_possible(case)
    # Changed cases stay valid. Without this, schemathesis would judge them again, and take every form with a file for an
    # invalid one (contains_binary in its generation/case.py).
    case._record_starting_state()


def make_possible(case):
    """Changes a valid case so that it also obeys the rules that are not in the document."""
    if "token" in (case.path_parameters or {}):
        # Nobody can draw a signed link; what is drawn elsewhere counts as forged.
        case.path_parameters = {**case.path_parameters, "token": os.environ["LINK_TOKEN"]}
    if isinstance(case.body, dict) and case.body.get("since") and case.body.get("until"):
        # The end of a period is not before its beginning.
        case.body = {**case.body, "until": case.body["since"]}
    if case.operation.definition.raw.get("operationId") == "getUsage" and case.query:
        # A period has two real days, in order, and at most 366 of them.
        days = {"from": "2026-11-01", "to": "2026-11-30"}
        if "from" in case.query:
            case.query = {**case.query, **days}
        elif "to" in case.query:
            case.query = {**case.query, "to": days["to"]}
    if case.operation.definition.raw.get("operationId") in NOTES:
        # No note exists that could be answered.
        case.query, case.body = without_answer(case.query), without_answer(case.body)
    if case.operation.definition.raw.get("operationId") in NOTES and isinstance(case.body, dict):
        # Only an answer to a received note needs no recipient, and there is none to be answered.
        case.body = {**case.body, "to": case.body.get("to") or "+15551234567"}
    if case.operation.definition.raw.get("operationId") in POSTS and isinstance(case.body, dict):
        case.body = with_one_audio(case.body, case.media_type)
    if case.operation.definition.raw.get("operationId") in POSTS:
        if case.media_type not in RAW:
            case.query = {}
        elif case.operation.definition.raw.get("operationId") in NOTES:
            case.query = {"to": "+15551234567", **(case.query or {})}
    if case.operation.definition.raw.get("operationId") == RENDER:
        # Exactly one of two says what the audio is for, and it exists. Then `via` says nothing new.
        named = {"profile": "whatsapp-1"}
        case.query = {**{k: v for k, v in (case.query or {}).items() if k not in ("for", "profile", "via")}, **named}
        if isinstance(case.body, dict):
            case.body = {k: v for k, v in case.body.items() if k != "via"}
