"""What a broker seldom does: refuse for a while, be away, answer nonsense. A server of the test's own does it."""

from __future__ import annotations

import datetime
import http.server
import json
import os
import pickle
import tempfile
import threading
import traceback
import unittest
from typing import Any, Callable, Dict, List, Optional, Tuple

from coffer import ApiError, Client, CofferError, ConfigurationError, ReferenceFailed, Setting, Unreachable

TOKEN = "cfr_made-up-token"
VALUE = "made-up-value"
REFERENCE = "coffer://project/01980000-0000-7000-8000-000000000000/secret/Custom/key"
Reply = Tuple[int, Dict[str, str], Any]
GOOD: Reply = (200, {}, {"results": [{"ref": REFERENCE, "status": 200, "value": VALUE}]})


def problem(status: int, headers: Optional[Dict[str, str]] = None) -> Reply:
    return status, {"Content-Type": "application/problem+json", **(headers or {})}, {"code": "some_code", "detail": "d"}


class Stub(http.server.ThreadingHTTPServer):
    """Answers with `reply(path, headers, body)`, and notes the requests."""

    def __init__(self, reply: Callable[[str, Dict[str, str], str], Optional[Reply]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.asked: List[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        self.server.asked.append(self.path)
        reply = self.server.reply(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        if reply is None:
            return  # The connection is cut.
        status, headers, answer = reply
        text = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST

    def log_message(self, *_: object) -> None:
        pass


class FaultTest(unittest.TestCase):
    def setUp(self) -> None:
        self.waits: List[float] = []

    def stub(self, *replies: Optional[Reply]) -> Stub:
        """The replies in turn; the last one for ever."""
        left = list(replies)
        return self.serve(lambda *_: left.pop(0) if len(left) > 1 else left[0])

    def serve(self, reply: Callable[[str, Dict[str, str], str], Optional[Reply]]) -> Stub:
        server = Stub(reply)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def client(self, server: Stub, **options: Any) -> Client:
        given = {"token": TOKEN, **options} if "client_id" not in options and "token_file" not in options else options
        return Client(server.url, sleep=self.waits.append, **given)


class Retrying(FaultTest):
    def test_what_passes_is_asked_again_never_sooner_than_told(self) -> None:
        for first in (problem(503, {"Retry-After": "7"}), problem(429, {"Retry-After": "7"})):
            self.waits.clear()
            self.assertEqual(self.client(self.stub(first, first, GOOD)).resolve(REFERENCE), VALUE)
            self.assertEqual([7 <= wait < 8 for wait in self.waits], [True, True])

    def test_waits_grow_and_differ(self) -> None:
        self.client(self.stub(*[problem(503)] * 4, GOOD)).resolve(REFERENCE)
        self.assertEqual(len(self.waits), 4)
        self.assertEqual(len(set(self.waits)), 4)
        for tries, wait in enumerate(self.waits):
            self.assertLessEqual(wait, 0.2 * 2**tries)

    def test_a_connection_that_is_cut_is_no_answer(self) -> None:
        self.assertEqual(self.client(self.stub(None, GOOD)).resolve(REFERENCE), VALUE)
        self.assertEqual(len(self.waits), 1)

    def test_a_proxys_502_passes_the_brokers_own_does_not(self) -> None:
        proxy: Reply = (502, {"Content-Type": "text/html"}, "<h1>Bad gateway</h1>")
        self.assertEqual(self.client(self.stub(proxy, GOOD)).resolve(REFERENCE), VALUE)
        server = self.stub(problem(502))
        with self.assertRaises(ApiError):
            self.client(server).resolve(REFERENCE)
        self.assertEqual(len(server.asked), 1)

    def test_an_item_that_is_away_is_asked_again(self) -> None:
        away: Reply = (200, {}, {"results": [{"ref": REFERENCE, "status": 503, "code": "unavailable", "detail": "d"}]})
        self.assertEqual(self.client(self.stub(away, GOOD)).resolve(REFERENCE), VALUE)
        with self.assertRaises(ReferenceFailed) as caught:
            self.client(self.stub(away), retry_seconds=0).resolve(REFERENCE)
        self.assertEqual(caught.exception.problems[0].code, "unavailable")

    def test_patience_ends(self) -> None:
        server = self.stub(problem(503, {"Retry-After": "3600"}))
        with self.assertRaises(ApiError) as caught:
            self.client(server).resolve(REFERENCE)
        self.assertEqual((caught.exception.status, caught.exception.code, self.waits), (503, "some_code", []))
        server.shutdown()
        server.server_close()
        with self.assertRaises(Unreachable):
            Client(server.url, TOKEN, retry_seconds=0).resolve(REFERENCE)


class Tokens(FaultTest):
    def test_a_file_is_read_again_when_it_changed_and_when_its_token_is_refused(self) -> None:
        seen: List[str] = []

        def reply(_path: str, headers: Dict[str, str], _body: str) -> Reply:
            seen.append(headers["authorization"])
            return GOOD if headers["authorization"] != "Bearer old" else problem(401)

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "token")
            write(path, "first\n")
            client = self.client(self.serve(reply), token_file=path)
            client.resolve(REFERENCE)
            write(path, "second")
            client.resolve(REFERENCE)
            write(path, "old")
            with self.assertRaises(ApiError):
                client.resolve(REFERENCE)
        self.assertEqual(seen, ["Bearer first", "Bearer second", "Bearer old"])

    def test_an_exchange_is_made_once_for_many_threads_and_again_before_its_end(self) -> None:
        life = [900]

        def reply(path: str, headers: Dict[str, str], body: str) -> Reply:
            if path == "/auth/token":
                return 200, {}, {"access_token": f"access-{body.count('subject')}", "expires_in": life[0]}
            return GOOD if headers["authorization"].startswith("Bearer access-") else problem(401)

        server = self.serve(reply)
        client = self.client(server, client_id="id", subject_token=lambda: "subject")
        threads = [threading.Thread(target=client.resolve, args=(REFERENCE,)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(server.asked.count("/auth/token"), 1)
        life[0] = 0
        fresh = self.client(server, client_id="id", subject_token=lambda: "subject")
        fresh.resolve(REFERENCE)
        fresh.resolve(REFERENCE)
        self.assertEqual(server.asked.count("/auth/token"), 3)

    def test_a_refused_access_token_is_exchanged_anew_once(self) -> None:
        server = self.serve(
            lambda path, *_: (200, {}, {"access_token": "a", "expires_in": 900}) if path == "/auth/token" else problem(401)
        )
        with self.assertRaises(ApiError):
            self.client(server, client_id="id", subject_token=lambda: "subject").resolve(REFERENCE)
        self.assertEqual(server.asked.count("/auth/token"), 2)
        self.assertEqual(server.asked.count("/settings/resolve"), 2)

    def test_no_redirect_takes_the_token_elsewhere(self) -> None:
        other = self.stub(GOOD)
        server = self.stub((307, {"Location": f"{other.url}/settings/resolve"}, ""))
        with self.assertRaises(CofferError):
            self.client(server).resolve(REFERENCE)
        self.assertEqual(other.asked, [])


class Silence(FaultTest):
    def test_no_repr_shows_a_value_or_a_token(self) -> None:
        client = self.client(self.stub(GOOD))
        setting = Setting.from_json(
            {"id": "i", "ref": "r", "owner_type": "project", "owner_id": "o", "path": "p", "name": "n", "type": "custom",
             "version": 1, "decrypted": True, "value": VALUE, "a_later_field": 1}
        )
        self.assertEqual(setting.reveal(), VALUE)
        for shown in (repr(client), str(client), repr(vars(client)), repr(setting), str(setting), f"{[setting]}"):
            self.assertNotIn(VALUE, shown)
            self.assertNotIn(TOKEN, shown)
        with self.assertRaises(TypeError):
            pickle.dumps(client)

    def test_no_traceback_shows_one_even_with_the_locals_of_its_frames(self) -> None:
        partly: Reply = (200, {}, {"results": [
            {"ref": REFERENCE, "status": 200, "value": VALUE},
            {"ref": f"{REFERENCE}2", "status": 404, "code": "not_found", "detail": "d"},
        ]})
        granted: Reply = (200, {}, {"access_token": TOKEN})
        cases: List[Tuple[str, Reply, Callable[[Client], Any]]] = [
            ("refused", problem(401), lambda client: client.resolve(REFERENCE)),
            ("refused write", problem(422), lambda client: client.store_api_key(VALUE, REFERENCE)),
            ("some fail", partly, lambda client: client.resolve_environ({"A": REFERENCE, "B": f"{REFERENCE}2"})),
            ("too few", GOOD, lambda client: client.resolve_environ({"A": REFERENCE, "B": f"{REFERENCE}2"})),
            ("no JSON", (200, {}, f"{{{VALUE}"), lambda client: client.resolve(REFERENCE)),
            ("half a grant", granted, lambda client: Client(
                client._base_url, client_id="i", subject_token=lambda: "s").resolve(REFERENCE)),
            ("a bad grant", (200, {}, {"access_token": f"{TOKEN}\n", "expires_in": 900}), lambda client: Client(
                client._base_url, client_id="i", subject_token=lambda: "s").resolve(REFERENCE)),
            ("an odd client", problem(400), lambda client: Client(
                client._base_url, client_id="\ud800", subject_token=lambda: TOKEN).resolve(REFERENCE)),
            ("a bad token", GOOD, lambda client: Client(client._base_url, f"{TOKEN}\n{VALUE}")),
        ]
        for what, reply, call in cases:
            with self.subTest(what):
                self.assert_silent(self.client(self.stub(reply)), call)

    def test_nor_when_nobody_answers(self) -> None:
        server = self.stub(None)
        self.assert_silent(self.client(server, retry_seconds=0), lambda client: client.store_api_key(VALUE, REFERENCE))

    def test_nor_when_a_value_or_metadata_is_no_json(self) -> None:
        circular: List[Any] = [VALUE]
        circular.append(circular)
        calls: Dict[str, Callable[[Client], Any]] = {
            "bytes": lambda client: client.put("project", "x", "secret/Custom/a", VALUE.encode()),
            "a field of bytes": lambda client: client.put("project", "x", "connect/S3/a", {"a": VALUE, "b": b""}),
            "a circle": lambda client: client.put("project", "x", "connect/S3/a", {"a": circular}),
            "a time": lambda client: client.put(
                "project", "x", "secret/Custom/a", VALUE, expires_at=datetime.datetime(2030, 1, 1)),
            "a key of bytes": lambda client: client.store_api_key(VALUE.encode(), REFERENCE),
            "a key's time": lambda client: client.store_api_key(VALUE, REFERENCE, expires_at=datetime.date(2030, 1, 1)),
            "references": lambda client: client.explain([REFERENCE.encode()]),
        }
        server = self.stub(GOOD)
        for what, call in calls.items():
            with self.subTest(what):
                error = self.assert_silent(self.client(server), call)
                self.assertIsInstance(error, ConfigurationError)
                self.assertEqual((error.__cause__, error.__context__), (None, None))
        self.assertEqual(server.asked, [])

    def test_nor_when_a_token_file_holds_no_token(self) -> None:
        server = self.stub(GOOD)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "token")
            for text in (f"{TOKEN}\n{TOKEN}\n", f"\ufeff{TOKEN}"):
                write(path, text)
                for options in ({"token_file": path}, {"client_id": "i", "subject_token_file": path}):
                    with self.subTest(text, **options):
                        client = self.client(server, **options)
                        error = self.assert_silent(client, lambda client: client.resolve(REFERENCE))
                        self.assertIsInstance(error, ConfigurationError)

    def assert_silent(self, client: Client, call: Callable[[Client], Any]) -> BaseException:
        first: Optional[BaseException] = None
        try:
            call(client)
        except CofferError as caught:  # assertRaises would clear the frames that are to be looked at.
            first = caught
        if first is None:
            self.fail("it succeeded")
        error: Optional[BaseException] = first
        frames = 0
        while error is not None:
            shown = traceback.TracebackException.from_exception(error, capture_locals=True)
            ours = [frame for frame in shown.stack if os.sep + "tests" + os.sep not in frame.filename]
            frames += len(ours)
            for text in (str(error), repr(error), repr([frame.locals for frame in ours])):
                self.assertNotIn(VALUE, text)
                self.assertNotIn(TOKEN, text)
            error = error.__context__
        self.assertGreater(frames, 0)
        return first


def write(path: str, text: str) -> None:
    """As Kubernetes does: another file in its place."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.new", path)
