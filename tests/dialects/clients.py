"""Clients from PyPI, pointed at voicegate: Linq's official package, one for WAHA and one for Evolution. Prints the ids of the
messages."""

import base64
import os
import sys
from pathlib import Path

import httpx

URL, KEY = os.environ["VOICEGATE_URL"], os.environ["VOICEGATE_API_KEY"]
INSTANCE, TO = os.environ["INSTANCE"], os.environ["TO"]
SPEECH, SPEECH_URL = os.environ["SPEECH"], os.environ["SPEECH_URL"]
DIGITS = TO.removeprefix("+")


def linq():
    from linq import LinqAPIV3

    client = LinqAPIV3(api_key=KEY, base_url=f"{URL}/compat/linq", max_retries=0)
    audio = Path(SPEECH).read_bytes()
    upload = client.attachments.create(filename="speech.mp3", content_type="audio/mpeg", size_bytes=len(audio))
    httpx.put(upload.upload_url, content=audio, headers=upload.required_headers).raise_for_status()
    chat = client.chats.list_chats(to=TO).chats[0]
    yield client.chats.send_voicememo(chat.id, attachment_id=upload.attachment_id).voice_memo.id
    yield client.chats.send_voicememo(chat.id, voice_memo_url=SPEECH_URL).voice_memo.id


def waha():
    from waha import WahaClient

    client = WahaClient(base_url=f"{URL}/compat/waha", api_key=KEY)
    assert client.ping.ping() == {"message": "pong"}
    data = base64.b64encode(Path(SPEECH).read_bytes()).decode()
    for file in ({"mimetype": "audio/mpeg", "data": data}, {"mimetype": "audio/mpeg", "url": SPEECH_URL}):
        sent = client.chatting.send_voice(
            {"session": INSTANCE, "chatId": f"{DIGITS}@c.us", "file": file, "convert": True}
        )
        yield sent["id"]


def evolution():
    from evolutionapi.client import EvolutionClient

    client = EvolutionClient(base_url=f"{URL}/compat/evolution", api_token=KEY)
    # The package posts a form: with a file, or with the audio in a field.
    yield client.messages.send_whatsapp_audio(INSTANCE, {"number": DIGITS}, KEY, SPEECH)["key"]["id"]
    message = {"number": DIGITS, "audio": SPEECH_URL}
    yield client.messages.send_whatsapp_audio(INSTANCE, message, KEY)["key"]["id"]


for message in {"linq": linq, "waha": waha, "evolution": evolution}[sys.argv[1]]():
    print(message)
