"""Repetition, against a server that gives chosen answers."""

import json
import unittest

from gateway import Scripted
from voicegate import ProblemError, UnexpectedAnswer, Voicegate, VoicegateError

TO = "+15551234567"
JSON = {"Content-Type": "application/json"}
NOTE = (202, JSON, b'{"id": "vn_1", "status": "queued"}')
PAGE = (502, {"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>")


def problem(status, code, **headers):
    body = {"type": "x", "title": "x", "status": status, "detail": "x", "code": code}
    return status, {"Content-Type": "application/problem+json", **headers}, json.dumps(body).encode()


class RetryTest(unittest.TestCase):
    def test_retry_after_is_honoured_and_the_key_stays_the_same(self):
        with Scripted(problem(429, "rate_limited", **{"Retry-After": "2"}), PAGE, NOTE) as server:
            self.assertEqual(Voicegate(server.url, "k").send(TO, b"1")["id"], "vn_1")
        (first, _), (second, _), _ = server.requests
        self.assertGreaterEqual(second - first, 1.99)
        self.assertEqual(len({headers["Idempotency-Key"] for _, headers in server.requests}), 1)

    def test_each_call_has_a_key_of_its_own_or_the_callers(self):
        with Scripted(NOTE) as server:
            client = Voicegate(server.url, "k")
            client.send(TO, b"1")
            client.send(TO, b"1")
            client.send(TO, b"1", idempotency_key="order-7")
            client.resend("vn_1")
            client.recover()
        keys = [headers["Idempotency-Key"] for _, headers in server.requests]
        self.assertEqual((len(set(keys)), keys[2]), (5, "order-7"))

    def test_a_long_retry_after_is_an_error_at_once(self):
        with Scripted(problem(503, "overloaded", **{"Retry-After": "3600"})) as server:
            with self.assertRaises(ProblemError) as caught:
                Voicegate(server.url, "k").get_note("vn_1")
        self.assertEqual((caught.exception.retry_after, len(server.requests)), (3600, 1))

    def test_what_does_not_go_away_by_itself_is_not_repeated(self):
        for status in (400, 401, 404, 409, 413, 422, 424):
            with Scripted(problem(status, "invalid_request")) as server:
                with self.assertRaises(ProblemError) as caught:
                    Voicegate(server.url, "k").send(TO, b"1")
            self.assertEqual((caught.exception.status, len(server.requests)), (status, 1))

    def test_an_upload_is_repeated_only_if_the_gateway_has_not_taken_it(self):
        with Scripted(problem(503, "overloaded"), (201, JSON, b'{"id": "med_1"}')) as server:
            self.assertEqual(Voicegate(server.url, "k").upload(b"1")["id"], "med_1")
        for answer in (problem(500, "internal"), PAGE):
            with Scripted(answer) as server:
                with self.assertRaises(VoicegateError):
                    Voicegate(server.url, "k").upload(b"1")
            self.assertEqual(len(server.requests), 1)

    def test_another_answer_is_an_error_of_its_own_and_redirects_are_not_followed(self):
        for answer in (PAGE, (200, JSON, b"<html>"), (302, {"Location": "http://127.0.0.1:1/"}, b"")):
            with Scripted(answer) as server:
                with self.assertRaises(UnexpectedAnswer):
                    Voicegate(server.url, "k", retries=1).get_note("vn_1")
            self.assertEqual(len(server.requests), 2)


if __name__ == "__main__":
    unittest.main()
