"""Against a real broker, which test/clients/python.test.ts of the repository starts and furnishes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import unittest
import uuid
from typing import List

from coffer import ApiError, Client, ConfigurationError, ReferenceFailed, Withheld

URL = os.environ["COFFER_TEST_URL"]
TOKEN = os.environ["COFFER_TEST_TOKEN"]
READER = os.environ["COFFER_TEST_READER_TOKEN"]
PROJECT = os.environ["COFFER_TEST_PROJECT"]
CLIENT_ID = os.environ["COFFER_TEST_CLIENT_ID"]
SUBJECT_TOKEN_FILE = os.environ["COFFER_TEST_SUBJECT_TOKEN_FILE"]

HOSTILE = {
    "quotes": """it's "quoted" `here`""",
    "newlines": "one\ntwo\r\nthree\n",
    "shell": "$(reboot); ${HOME} $HOME `id` && || \\",
    "unicode": "ключ 🔑 \u202e \u00e9 e\u0301 \U0010ffff",
    "large": "x" * 65536,
    "blank": "  \t ",
    "a_reference": "coffer://project/none/secret/Custom/x",
}
S3 = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalr/+=", "bucket": "data", "force_path_style": True}


def name() -> str:
    return f"n{uuid.uuid4().hex[:12]}"


class BrokerTest(unittest.TestCase):
    client: Client

    @classmethod
    def setUpClass(cls) -> None:
        cls.client = Client(URL, TOKEN, owner=f"project/{PROJECT}")


class Settings(BrokerTest):
    def test_reads_what_it_wrote_by_the_positional_order(self) -> None:
        path = f"connect/S3/{name()}"
        written = self.client.put("project", PROJECT, path, S3, description="of a test", labels={"a": "b"})
        self.assertEqual((written.version, written.value), (1, None))
        (found,) = self.client.get_settings("project", PROJECT, path, True)
        self.assertEqual(found.reveal(), S3)
        self.assertEqual((found.path, found.type, found.labels["a"]), (path, "s3", "b"))
        self.assertEqual(found.reference, f"coffer://project/{PROJECT}/{path}")
        (listed,) = self.client.get_settings("project", PROJECT, path)
        self.assertFalse(listed.decrypted)
        with self.assertRaises(Withheld):
            listed.reveal()

    def test_follows_pages_to_their_end(self) -> None:
        folder = f"secret/Custom/{name()}"
        # A page ends early past 1 MiB of values.
        for number in range(20):
            self.client.put("project", PROJECT, f"{folder}/{number:02}", f"{number:02}" + "v" * 65000)
        found = self.client.get_settings("project", PROJECT, folder, True)
        self.assertEqual([each.name for each in found], [f"{number:02}" for number in range(20)])
        self.assertEqual([str(each.reveal())[:2] for each in found], [f"{number:02}" for number in range(20)])

    def test_hostile_values_come_back_as_they_were(self) -> None:
        for what, value in HOSTILE.items():
            with self.subTest(what):
                reference, _ = self.client.store_api_key(value, name())
                self.assertEqual(self.client.resolve(reference), value)

    def test_a_reader_sees_that_it_exists_and_not_its_value(self) -> None:
        path = f"secret/Custom/{name()}"
        self.client.put("project", PROJECT, path, "seen-by-nobody")
        reader = Client(URL, READER)
        (found,) = reader.get_settings("project", PROJECT, path, True)
        self.assertEqual((found.value, found.withheld), (None, "insufficient_role"))
        with self.assertRaises(Withheld):
            found.reveal()
        with self.assertRaises(ApiError) as caught:
            reader.get_value("project", PROJECT, path)
        self.assertEqual((caught.exception.status, caught.exception.code), (403, "forbidden"))

    def test_one_value_one_version_one_field(self) -> None:
        path = f"connect/S3/{name()}"
        self.client.put("project", PROJECT, path, S3)
        self.client.put("project", PROJECT, path, {**S3, "bucket": "later"})
        self.assertEqual(self.client.get_value("project", PROJECT, path, field="bucket"), "later")
        self.assertEqual(self.client.get_value("project", PROJECT, path, version=1, field="bucket"), "data")
        self.assertIs(self.client.get_value("project", PROJECT, path, field="force_path_style"), True)

    def test_conditions_are_the_brokers(self) -> None:
        path = f"secret/Custom/{name()}"
        first = self.client.put("project", PROJECT, path, "one", if_none_match="*")
        self.client.put("project", PROJECT, path, "two", if_match=first.etag)
        with self.assertRaises(ApiError) as caught:
            self.client.put("project", PROJECT, path, "three", if_match=first.etag)
        self.assertEqual(caught.exception.status, 412)

    def test_a_value_with_nul_is_refused(self) -> None:
        with self.assertRaises(ApiError) as caught:
            self.client.store_api_key("a\0b", name())
        self.assertEqual(caught.exception.status, 422)


class ApiKeys(BrokerTest):
    def test_a_stored_key_is_passed_round_as_a_reference_and_resolved_where_it_is_used(self) -> None:
        key = name()
        reference, version = self.client.store_api_key("made-up-key", key)
        self.assertEqual((reference, version), (self.client.get_api_key(key, version), 1))
        self.assertNotIn("made-up-key", reference)
        self.assertEqual(self.client.resolve(reference), "made-up-key")
        self.client.store_api_key("newer-key", key)
        self.assertEqual(self.client.resolve(reference), "made-up-key")
        self.assertEqual(self.client.resolve(self.client.get_api_key(key)), "newer-key")
        self.assertEqual(self.client.resolve(self.client.get_api_key(key, "latest")), "newer-key")


class Resolving(BrokerTest):
    def test_plain_text_passes_through(self) -> None:
        for text in ("", "plain", "s3://bucket/key", "project/one", "https://coffer://x"):
            self.assertEqual(self.client.resolve(text), text)

    def test_every_form_of_a_reference_is_resolved_or_raises(self) -> None:
        key = name()
        self.client.store_api_key("made-up-key", key)
        bare = f"project/{PROJECT}/secret/Custom/{key}"
        for text in (bare, f"coffer://{bare}", f"  coffer://{bare}\n", f"coffer://{bare}?version=1"):
            self.assertEqual(self.client.resolve(text), "made-up-key")
        nowhere = f"project/{uuid.uuid4()}/secret/Custom/{key}"
        for text, status in (
            (f"coffer://{bare}-gone", 404),
            (f"coffer://{bare}?version=9", 404),
            (f"coffer://{nowhere}", 403),
            ("coffer://", 400),
            ("coffer://my-key-in-the-wrong-place", 400),
            ("COFFER://my-key-in-the-wrong-place", 400),
            ("_SECRET_-eyJ0eXBlIjoiQVdTIn0=", None),
        ):
            with self.subTest(text), self.assertRaises(ReferenceFailed) as caught:
                self.client.resolve(text)
            (problem,) = caught.exception.problems
            if status is not None:
                self.assertEqual(problem.status, status)
            self.assertNotIn("wrong-place", str(caught.exception))

    def test_an_environment_is_resolved_whole_or_not_at_all(self) -> None:
        key, composite = name(), name()
        reference, _ = self.client.store_api_key("made-up-key", key)
        self.client.put("project", PROJECT, f"connect/S3/{composite}", S3)
        s3 = f"coffer://project/{PROJECT}/connect/S3/{composite}"
        given = {"KEY": reference, "SAME": reference, "BUCKET": f"{s3}#bucket", "FLAG": f"{s3}#force_path_style"}
        environ = {"HOME": "/root", **given}
        resolved = self.client.resolve_environ(environ)
        wanted = {"KEY": "made-up-key", "SAME": "made-up-key", "BUCKET": "data", "FLAG": "true"}
        self.assertEqual(resolved, wanted)
        self.assertEqual(environ, {"HOME": "/root", **wanted})
        broken = {**given, "BROKEN": f"{reference[:-10]}-gone"}
        before = dict(broken)
        with self.assertRaises(ReferenceFailed) as caught:
            self.client.resolve_environ(broken)
        self.assertEqual([problem.name for problem in caught.exception.problems], ["BROKEN"])
        self.assertEqual(broken, before)
        self.assertNotIn("made-up-key", str(caught.exception))

    def test_more_references_than_one_call_takes(self) -> None:
        key = name()
        refs = [self.client.store_api_key(f"value {number}", f"{key}-{number}")[0] for number in range(101)]
        environ = {f"K{number}": ref for number, ref in enumerate(refs)}
        self.client.resolve_environ(environ)
        self.assertEqual(environ, {f"K{number}": f"value {number}" for number in range(101)})

    def test_explain_opens_nothing(self) -> None:
        reference, _ = self.client.store_api_key("made-up-key", name())
        found, gone = self.client.explain([reference, reference.replace("?version=1", "?version=7")])
        self.assertEqual((found["status"], found["version"], gone["status"]), (200, 1, 404))
        (stopped,) = Client(URL, READER).explain([reference])
        self.assertEqual((stopped["status"], stopped["code"]), (403, "forbidden"))
        self.assertNotIn("made-up-key", repr([found, stopped]))


class Workers(BrokerTest):
    def test_threads_share_a_client(self) -> None:
        reference, _ = self.client.store_api_key("made-up-key", name())
        found: List[object] = []
        threads = [
            threading.Thread(target=lambda: found.append(self.client.resolve(reference))) for _ in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, ["made-up-key"] * 16)

    @unittest.skipUnless(hasattr(os, "fork"), "no fork here")
    def test_forked_workers_use_the_parents_client_while_its_threads_use_it_too(self) -> None:
        reference, _ = self.client.store_api_key("made-up-key", name())
        client = Client(URL, client_id=CLIENT_ID, subject_token_file=SUBJECT_TOKEN_FILE)
        done = threading.Event()

        def keep_asking() -> None:
            while not done.is_set():
                client.resolve(reference)

        busy = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in busy:
            thread.start()
        try:
            children = [fork_and_resolve(client, reference) for _ in range(8)]
            codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        finally:
            done.set()
            for thread in busy:
                thread.join()
        self.assertEqual(codes, [0] * 8)

    def test_a_workload_signs_in_with_its_own_identity(self) -> None:
        reference, _ = self.client.store_api_key("made-up-key", name())
        by_file = Client(URL, client_id=CLIENT_ID, subject_token_file=SUBJECT_TOKEN_FILE)
        self.assertEqual(by_file.resolve(reference), "made-up-key")
        with open(SUBJECT_TOKEN_FILE, encoding="utf-8") as file:
            subject_token = file.read()
        by_function = Client(URL, client_id=CLIENT_ID, subject_token=lambda: subject_token)
        self.assertEqual(by_function.resolve(reference), "made-up-key")
        with self.assertRaises(ApiError) as caught:
            Client(URL, client_id=CLIENT_ID, subject_token=lambda: "not.a.token").resolve(reference)
        self.assertEqual(caught.exception.code, "invalid_grant")


class Commands(BrokerTest):
    def run_module(self, environ: "dict[str, str]", *command: str) -> "subprocess.CompletedProcess[str]":
        clean = {name: text for name, text in os.environ.items() if not name.startswith("COFFER_")}
        return subprocess.run(
            [sys.executable, "-m", "coffer", *command],
            env={**clean, "COFFER_URL": URL, "COFFER_TOKEN": TOKEN, **environ},
            capture_output=True,
            text=True,
        )

    def test_run_becomes_the_command_with_its_environment_resolved(self) -> None:
        reference, _ = self.client.store_api_key(HOSTILE["shell"], name())
        told = "import os; print(os.environ['KEY'], 'COFFER_TOKEN' in os.environ); raise SystemExit(7)"
        ended = self.run_module({"KEY": reference}, "run", "--", sys.executable, "-c", told)
        self.assertEqual((ended.returncode, ended.stdout), (7, f"{HOSTILE['shell']} False\n"))

    def test_run_starts_nothing_when_a_reference_fails(self) -> None:
        ended = self.run_module({"KEY": "coffer://nothing"}, "run", "--", "echo", "started")
        self.assertEqual((ended.returncode, ended.stdout), (125, ""))
        self.assertIn("KEY: 400 invalid_reference", ended.stderr)

    def test_run_without_references_needs_no_token(self) -> None:
        ended = self.run_module({"COFFER_TOKEN": ""}, "run", "echo", "started")
        self.assertEqual((ended.returncode, ended.stdout), (0, "started\n"))
        self.assertEqual(self.run_module({}, "run", "/nowhere/command").returncode, 127)


class Configuration(unittest.TestCase):
    def test_the_environment_configures_and_arguments_win(self) -> None:
        before = {name: os.environ.get(name) for name in ("COFFER_URL", "COFFER_TOKEN")}
        os.environ.update(COFFER_URL=URL + "/", COFFER_TOKEN=TOKEN)
        try:
            self.assertEqual(Client().get_settings("project", PROJECT, "secret/Custom/none"), [])
            with self.assertRaises(ApiError):
                Client(token="cfr_not-a-token").get_settings("project", PROJECT)
        finally:
            for name, text in before.items():
                os.environ.pop(name) if text is None else os.environ.update({name: text})

    def test_nobody_and_nonsense_are_refused(self) -> None:
        for base_url, token in ((URL, None), ("ftp://x", "t"), ("http://u:p@x", "t"), (URL, "a b")):
            with self.subTest(base_url), self.assertRaises(ConfigurationError) as caught:
                Client(base_url, token)
            self.assertNotIn("u:p", str(caught.exception))


def fork_and_resolve(client: Client, reference: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = 0 if client.resolve(reference) == "made-up-key" else 2
    finally:
        os._exit(code)
