"""Every method against a running gateway."""

import asyncio
import base64
import datetime
import inspect
import io
import json
import pickle
import time
import traceback
import unittest

import jsonschema
from gateway import KEY, RECORDING, SAMPLE, SECRETS, BrokenWay, Gateway, eventually, get
from voicegate import AsyncVoicegate, ConnectionFailed, ProblemError, Voicegate, WebhookVerificationError, verify_webhook
from voicegate.errors import (
    AudioTooLarge,
    InvalidRequest,
    NotFound,
    ProviderRejected,
    RecipientInvalid,
    RecipientUnsupported,
    SpeechRejected,
    SpeechUnavailable,
    Unauthorized,
)

TO = "+15551234567"
ID = "01985c3a-7c1e-7d52-9a3b-5f0e6c2d8b41"
UNDER_WAY = ("accepted", "sent", "delivered")


class Watched(Voicegate):
    """A client that notes which of its methods were called."""

    called = set()

    def __getattribute__(self, name):
        if not name.startswith("_"):
            Watched.called.add(name)
        return super().__getattribute__(name)


def later() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)


class ClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway()
        cls.addClassCleanup(cls.gateway.stop)
        cls.client = Watched(cls.gateway.url, KEY)
        cls.audio = SAMPLE.read_bytes()

    def test_every_body_form_sends_the_same_note(self):
        fields = {"metadata": {"order": 7}, "degrade": ["audio"], "expires_in": "10m", "strict": False, "wait": 30}
        media = self.client.upload(self.audio)["id"]
        file = io.BytesIO(self.audio)
        sent = [
            self.client.send(TO, self.audio, **fields),
            self.client.send(TO, SAMPLE, **fields),
            self.client.send(TO, file, filename="speech.mp3", **fields),
            self.client.send(TO, self.audio, body="raw", mime_type="audio/mpeg", **fields),
            self.client.send(TO, bytearray(self.audio), body="json", **fields),
            self.client.send(TO, {"data": base64.b64encode(self.audio).decode()}, **fields),
            self.client.send(TO, {"media_id": media}, **fields),
        ]
        link = f"{self.gateway.sandbox_url}/sandbox/ledger/{self.gateway.ledger()[0]['id']}/audio"
        sent.append(self.client.send(TO, {"url": link}, **fields))
        self.assertEqual(len({note["audio"]["source"]["sha256"] for note in sent}), 1)
        for note in sent:
            self.assertIn(note["status"], UNDER_WAY)
            self.assertEqual(note["metadata"], {"order": 7})

    def test_headerless_samples_are_described_by_format_in_every_form(self):
        format = {"encoding": "s16le", "sample_rate": 16000, "channels": 1}
        for body in ("multipart", "raw", "json"):
            plan = self.client.plan(TO, bytes(32000), format=format, body=body)
            self.assertEqual(plan["audio"]["duration_ms"], 1000, body)
        plan = self.client.plan(TO, bytes(32000), format="polly-pcm-16000")
        self.assertEqual(plan["audio"]["container"], "pcm")

    def test_what_cannot_be_right_is_refused_before_it_is_sent(self):
        for audio in (None, "https://bot.example/a.mp3", 7, io.StringIO("text")):
            with self.assertRaises(TypeError):
                self.client.send(TO, audio)
        with self.assertRaises(TypeError):
            self.client.send(TO, {"url": "https://bot.example/a.mp3"}, body="raw")
        with self.assertRaises(ValueError):
            self.client.send(TO, self.audio, wait=61)
        with self.assertRaises(ValueError):
            self.client.send(TO, self.audio, send_at=datetime.datetime.now())
        with self.assertRaises(ValueError):
            self.client.get_note("..")
        for url in ("ftp://gateway.example", "https://user:word@gateway.example", "gateway.example"):
            with self.assertRaises(ValueError):
                Voicegate(url, "k")

    def test_a_note_is_planned_read_downloaded_sent_again_and_erased(self):
        plan = self.client.plan(TO, self.audio, via="whatsapp")
        self.assertEqual(plan["connections"][0]["work"], "transcoded")
        note = self.client.send(TO, self.audio, metadata={"test": "one"})
        self.client.wait_for_note(note["id"])
        self.assertEqual(self.client.get_note(note["id"])["id"], note["id"])
        self.assertEqual(self.client.get_audio(note["id"]).content, self.audio)
        self.assertEqual(self.client.get_audio(note["id"], source=True).type, "audio/mpeg")
        scheduled = self.client.send(TO, self.audio, send_at=later())
        self.assertEqual(self.client.cancel(scheduled["id"])["status"], "canceled")
        again = self.client.resend(scheduled["id"])
        self.assertEqual(again["resend_of"], scheduled["id"])
        self.client.wait_for_note(again["id"])
        self.client.erase(note["id"])
        self.assertIsNone(self.client.get_note(note["id"])["to"])

    def test_a_list_goes_on_over_its_pages(self):
        for _ in range(5):
            self.client.send(TO, self.audio)
        page = self.client.list_notes(limit=2, via="imessage")
        self.assertEqual(len(page["items"]), 2)
        self.assertIsNotNone(page["next_cursor"])
        ids = [note["id"] for note in self.client.notes(limit=2, via="imessage")]
        self.assertGreater(len(ids), 4)
        self.assertEqual(len(set(ids)), len(ids))

    def test_an_upload_is_kept_and_deleted(self):
        upload = self.client.upload(self.audio, body="raw")
        self.assertEqual(self.client.get_upload(upload["id"])["audio"]["sha256"], upload["audio"]["sha256"])
        self.client.delete_upload(upload["id"])
        with self.assertRaises(ProblemError) as caught:
            self.client.get_upload(upload["id"])
        self.assertIn(caught.exception.code, ("not_found", "media_expired"))

    def test_a_failed_note_has_its_problem_and_a_recovery_sends_it_again(self):
        self.gateway.fault({"kind": "status", "status": 400})
        with self.assertRaises(ProviderRejected) as caught:
            self.client.send(TO, self.audio, wait=30)
        self.assertEqual(self.client.get_note(caught.exception.id)["status"], "failed")
        ordered = self.client.recover(status=["failed"], since=later() - datetime.timedelta(hours=2))
        task = self.client.wait_for_task(ordered["id"])
        self.assertEqual((task["status"], task["done"]), ("done", 1))
        self.assertEqual(self.client.get_task(ordered["id"])["status"], "done")

    def test_an_unknown_outcome_is_a_status_and_no_error(self):
        self.gateway.fault({"kind": "reset_after"})
        note = self.client.send(TO, self.audio, wait=30)
        self.assertEqual(note["attempts"][0]["outcome"], "unknown")

    def test_errors_are_typed_by_their_code_and_never_show_the_key(self):
        with self.assertRaises(RecipientInvalid) as caught:
            self.client.send("hello", self.audio)
        error = caught.exception
        self.assertEqual((error.code, error.status, error.field, error.stage), ("recipient_invalid", 400, "to", "request"))
        self.assertTrue(error.request_id and error.idempotency_key)
        copy = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(copy), copy.idempotency_key, str(copy)), (type(error), error.idempotency_key, str(error)))
        secret = "vg_of_a_stranger"
        stranger = Voicegate(self.gateway.url, secret)
        nowhere = Voicegate("http://127.0.0.1:1", secret, retries=0)
        shown = [repr(stranger), repr(AsyncVoicegate("http://127.0.0.1:1", secret))]
        for call, kind in ((stranger.connections, Unauthorized), (lambda: nowhere.send(TO, b"1"), ConnectionFailed)):
            with self.assertRaises(kind) as caught:
                call()
            shown.append("".join(traceback.format_exception(caught.exception)) + repr(caught.exception.__dict__))
        self.assertTrue(caught.exception.idempotency_key)
        for text in shown:
            self.assertNotIn(secret, text)

    def test_audio_that_is_too_large_is_told_in_every_form(self):
        # The gateway answers before it has read everything.
        for body in ("multipart", "raw", "json"):
            with self.assertRaises(AudioTooLarge):
                self.client.send(TO, bytes(40 << 20), body=body)

    def test_every_code_has_a_class(self):
        codes = get(self.gateway.url + "/openapi.json")["components"]["schemas"]["ProblemCode"]["enum"]
        plain = [code for code in codes if type(ProblemError.of({"code": code})) is ProblemError]
        self.assertEqual(plain, [])
        self.assertIs(type(ProblemError.of({"code": "of_a_later_version"})), ProblemError)

    def test_a_note_is_sent_once_though_its_answer_was_lost(self):
        way = BrokenWay(self.gateway.port, b"POST /voice", 2)
        before = len(self.gateway.ledger())
        note = Voicegate(way.url, KEY).send(TO, self.audio, metadata={"test": "lost"})
        self.client.wait_for_note(note["id"])
        way.close()
        self.assertEqual(len(way.requests), 3)
        keys = {line for head in way.requests for line in head.lower().split(b"\r\n") if line.startswith(b"idempotency-key")}
        self.assertEqual(len(keys), 1)
        self.assertEqual(len(self.gateway.ledger()), before + 1)

    def test_an_upload_is_not_repeated_after_its_answer_was_lost(self):
        way = BrokenWay(self.gateway.port, b"POST /media", 1)
        with self.assertRaises(ConnectionFailed):
            Voicegate(way.url, KEY).upload(self.audio)
        way.close()
        self.assertEqual(len(way.requests), 1)

    def test_a_cancellation_whose_answer_was_lost_is_no_error(self):
        note = self.client.send(TO, self.audio, send_at=later())
        way = BrokenWay(self.gateway.port, b"POST /voice", 1)
        self.assertEqual(Voicegate(way.url, KEY).cancel(note["id"])["status"], "canceled")
        way.close()
        self.assertEqual(len(way.requests), 2)

    def webhook(self, id):
        """The headers and the body of the first event of a note."""

        def ours():
            return next((hook for hook in self.gateway.webhooks if json.loads(hook[1])["data"]["id"] == id), None)

        headers, body = eventually("a webhook", ours)
        return {name.lower(): value for name, value in headers.items()}, body

    def assert_described(self, event, headers, body):
        """Checks a webhook against the document of the gateway."""
        document = get(self.gateway.url + "/openapi.json")
        described = document["webhooks"][event]["post"]
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(json.loads(body))
        for parameter in described["parameters"]:
            if parameter["required"]:
                jsonschema.validate(headers[parameter["name"]], parameter["schema"])

    def test_webhooks_are_verified_with_either_secret_and_posted_again(self):
        note = self.client.send(TO, self.audio, wait=30)
        headers, body = self.webhook(note["id"])
        for secret in (*SECRETS, SECRETS):
            event = verify_webhook(secret, headers, body)
            self.assertEqual((event["type"], event["data"]["id"]), ("voice.accepted", note["id"]))
            self.assertEqual(event["id"], headers["webhook-id"])
        verify_webhook(SECRETS, {name.title(): value for name, value in headers.items()}, body.decode())
        self.assert_described("voice.accepted", headers, body)
        changed = body.replace(b"voice.accepted", b"voice.played")
        wrong = [
            ("whsec_AAAA", headers, body, {}),
            (SECRETS, headers, changed, {}),
            (SECRETS, headers, body, {"now": time.time() + 301}),
            (SECRETS, headers, body, {"now": time.time() - 400}),
            (SECRETS, headers | {"webhook-signature": "v1,ä"}, body, {}),
            (SECRETS, headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")}, body, {}),
            (SECRETS, headers | {"webhook-timestamp": "soon"}, body, {}),
            (SECRETS, {}, body, {}),
        ]
        for secret, given, content, more in wrong:
            with self.assertRaises(WebhookVerificationError):
                verify_webhook(secret, given, content, **more)
        with self.assertRaises(ValueError):
            verify_webhook([], headers, body)

        event = headers["webhook-id"]
        attempts = eventually("an attempt", lambda: self.client.event_attempts(event))
        self.assertEqual(attempts[0]["status"], 204)
        self.assertEqual(self.client.resend_event(event)["id"], event)

        def twice():
            ids = [{name.lower(): value for name, value in hook[0].items()}["webhook-id"] for hook in self.gateway.webhooks]
            return ids.count(event) > 1

        eventually("the event again", twice)
        task = self.client.recover_webhook(since=later() - datetime.timedelta(hours=2))
        self.assertEqual(self.client.wait_for_task(task["id"])["status"], "done")

    def test_a_stream_goes_on_after_a_crash_without_loss_or_repetition(self):
        with self.client.events() as events:
            first = self.client.send(TO, self.audio, wait=30)["id"]
            seen, resumed, second = [], None, None
            for event in events:
                if event["data"]["id"] not in (first, second):
                    continue  # of another test
                seen.append((event["type"], event["data"]["id"]))
                if len(seen) == 1:
                    self.assertEqual(seen[0], ("voice.accepted", first))
                    resumed = events.last_event_id
                    self.gateway.kill()
                    self.gateway.serve()
                    second = self.client.send(TO, self.audio, wait=30)["id"]
                elif event["data"]["id"] == second:
                    break
        self.assertEqual(seen.count(("voice.accepted", first)), 1)
        with self.client.events(last_event_id=resumed) as rest:
            for event in rest:
                self.assertNotEqual((event["type"], event["data"]["id"]), seen[0])
                if event["data"]["id"] == second:
                    rest.close()
        with self.client.note_events(first) as events:
            self.assertEqual(next(events)["type"], "voice.accepted")
        with self.assertRaises(NotFound):
            self.client.note_events("vn_" + ID)

    def test_connections_and_usage(self):
        self.client.send(TO, self.audio, wait=30)
        names = sorted(connection["name"] for connection in self.client.connections()["items"])
        self.assertEqual(names, ["imessage", "waha", "whatsapp"])
        usage = self.client.usage(by="connection")
        self.assertTrue(any(item["key"] == "imessage" and item["notes"] > 0 for item in usage["items"]))

    def test_audio_is_rendered_without_being_sent(self):
        rendered = self.client.render(self.audio, connection="whatsapp")
        self.assertTrue(rendered.type.startswith("audio/ogg"))
        self.assertEqual(rendered.content[:4], b"OggS")
        self.assertEqual(len(rendered.waveform), 64)
        self.assertGreater(rendered.duration_ms, 9000)

    def test_a_received_note_is_announced_listed_read_downloaded_answered_and_erased(self):
        recording = RECORDING.read_bytes()
        with self.client.events() as events:
            said = self.gateway.say(TO)
            announced = next(event for event in events if event["type"] == "voice.received")["data"]
        id = announced["id"]
        self.assertTrue(id.startswith("in_"))
        facts = [announced[name] for name in ("status", "from", "via", "sender_name", "provider_message_id")]
        self.assertEqual(facts, ["received", TO, "waha", "Ann", said["message_id"]])
        headers, body = self.webhook(id)
        posted = verify_webhook(SECRETS, headers, body)
        self.assertEqual((posted["type"], posted["data"]), ("voice.received", announced))
        self.assert_described("voice.received", headers, body)
        with self.assertRaises(WebhookVerificationError):
            verify_webhook(SECRETS, headers, body.replace(b"Ann", b"Eve"))

        self.assertEqual([note["id"] for note in self.client.list_received(limit=1)["items"]], [id])
        self.assertEqual([note["id"] for note in self.client.received(via="waha", sender=TO)], [id])
        self.assertEqual(list(self.client.received(via="imessage")), [])
        note = self.client.get_received(id)
        self.assertEqual((note["id"], note["form"], len(note["waveform"])), (id, "voice", 64))

        native = self.client.get_received_audio(id)
        self.assertEqual((native.content, native.filename), (recording, "voice.ogg"))
        self.assertTrue(native.type.startswith("audio/ogg"), native.type)
        self.assertEqual(self.client.get_received_audio(id, form="native").content, recording)
        mp3 = self.client.get_received_audio(id, form="mp3-1")
        self.assertEqual((mp3.type, len(mp3.content)), ("audio/mpeg", note["audio"]["renders"]["mp3-1"]["size_bytes"]))

        answer = self.client.send(audio=self.audio, reply_to=id, wait=30)
        self.assertEqual((answer["to"], answer["via"], answer["reply_to"]), (TO, "waha", id))
        quotes = [entry for entry in self.gateway.ledger() if entry["reply_to"] == said["message_id"]]
        self.assertEqual([(entry["provider"], entry["form"]) for entry in quotes], [("waha", "voice")])

        self.client.erase_received(id)
        for call in (self.client.get_received, self.client.get_received_audio):
            with self.assertRaises(NotFound):
                call(id)
        self.assertEqual(self.client.list_received()["items"], [])
        with self.assertRaises(NotFound):
            self.client.erase_received("in_" + ID)

    def test_a_text_is_spoken_and_errors_of_speech_are_typed(self):
        def speech(text, **more):
            return {"speech": {"text": text, **more}}

        server = {"provider": "openai", "operation": "speech"}
        note = self.client.send(TO, speech("Your parcel is here.", voice="otto"), wait=30)
        self.assertIn(note["status"], UNDER_WAY)
        spoken = note["audio"]["speech"]
        self.assertEqual((spoken["text"], spoken["with"], spoken["voice"]), ("Your parcel is here.", "anna", "otto"))
        # The emulator speaks 72 ms for each character.
        self.assertAlmostEqual(note["audio"]["source"]["duration_ms"], 1440, delta=10)
        rendered = self.client.render(speech("Your parcel is here."), connection="whatsapp")
        self.assertEqual(rendered.content[:4], b"OggS")
        self.assertIsNone(self.client.plan(TO, speech("Not spoken."))["audio"])

        self.gateway.fault({"kind": "status", "status": 400}, **server)
        with self.assertRaises(SpeechRejected) as caught:
            self.client.send(TO, speech("Refused."), wait=30)
        self.assertEqual((caught.exception.status, caught.exception.stage), (422, "speech"))
        self.assertEqual(self.client.get_note(caught.exception.id)["status"], "failed")
        self.gateway.fault({"kind": "status", "status": 500}, **server)
        with self.assertRaises(SpeechUnavailable):
            self.client.render(speech("Unavailable."), connection="whatsapp")
        with self.assertRaises(InvalidRequest) as caught:
            self.client.send(TO, speech("x", **{"with": "nobody"}))
        self.assertEqual(caught.exception.field, "audio.speech.with")

    def test_the_sign_of_recording_is_shown_where_the_provider_has_one(self):
        for via in (None, "waha"):
            for state in ("recording", "paused"):
                self.client.presence(TO, state, via=via)
        shown = [request["provider"] for request in self.gateway.requests() if request["operation"] == "presence"]
        self.assertEqual(shown, ["linq", "linq", "waha", "waha"])
        with self.assertRaises(RecipientUnsupported):
            self.client.presence(TO, "recording", via="whatsapp")

    def test_asyncio(self):
        async def use():
            client = AsyncVoicegate(self.gateway.url, KEY)
            async with await client.events() as events:
                sent = await asyncio.gather(*(client.send(TO, self.audio, wait=30) for _ in range(3)))
                waiting = {note["id"] for note in sent}
                async for event in events:
                    if event["type"] == "voice.accepted":
                        waiting.discard(event["data"]["id"])
                    if not waiting:
                        break
            with self.assertRaises(RecipientInvalid):
                await client.send("hello", self.audio)
            found = [note["id"] async for note in client.notes(limit=2)]
            self.assertTrue({note["id"] for note in sent} <= set(found))
            async with await client.note_events(sent[0]["id"]) as events:
                async for event in events:
                    break

        asyncio.run(use())
        calls = {name for name, _ in inspect.getmembers(Voicegate, inspect.isfunction) if not name.startswith("_")}
        self.assertEqual([name for name in calls if not hasattr(AsyncVoicegate, name)], [])

    def test_zz_every_method_was_called(self):
        calls = {name for name, _ in inspect.getmembers(Voicegate, inspect.isfunction) if not name.startswith("_")}
        self.assertEqual(calls - Watched.called, set())


if __name__ == "__main__":
    unittest.main()
