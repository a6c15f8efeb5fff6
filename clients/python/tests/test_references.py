"""References are told and made without a broker."""

from __future__ import annotations

import pathlib
import re
import unittest

from coffer import Client, ConfigurationError, is_reference

PROJECT = "01980000-0000-7000-8000-000000000000"


class References(unittest.TestCase):
    client = Client("http://127.0.0.1:1", "t", owner=f"project/{PROJECT}", retry_seconds=0)

    def test_what_is_one(self) -> None:
        for text in (f"project/{PROJECT}/secret/Custom/a", "coffer://", " coffer://x\n", "_SECRET_-e30=", "Coffer://x"):
            self.assertTrue(is_reference(text), text)
        for text in ("", "a", "project/a", "project/x/secret/Custom/a", f"project/{PROJECT}", f"see {PROJECT}", "_SECRET_"):
            self.assertFalse(is_reference(text), text)

    def test_a_reference_is_made_with_no_call(self) -> None:
        whole = f"coffer://project/{PROJECT}/secret/Custom/key"
        self.assertEqual(self.client.get_api_key("key", 3), f"{whole}?version=3")
        self.assertEqual(self.client.get_api_key("key"), whole)
        self.assertEqual(self.client.get_api_key("key", "latest"), whole)
        self.assertEqual(self.client.get_api_key("key", "7"), f"{whole}?version=7")
        self.assertEqual(self.client.get_api_key("secret/Custom/a/b"), f"coffer://project/{PROJECT}/secret/Custom/a/b")
        other = f"coffer://user/{PROJECT}/secret/Custom/key"
        self.assertEqual(self.client.get_api_key("key", owner=f"user/{PROJECT}"), other)
        self.assertEqual(self.client.get_api_key(other, 2), f"{other}?version=2")

    def test_what_makes_none_is_refused(self) -> None:
        for name in ("", "a b", "../a", "a//b", "-a", "a?version=2", "a#b", "x" * 65, f"project/{PROJECT}/a?version=2"):
            with self.subTest(name), self.assertRaises(ConfigurationError):
                self.client.get_api_key(name)
        for version in (0, -1, "newest"):
            with self.subTest(version), self.assertRaises((ConfigurationError, ValueError)):
                self.client.get_api_key("a", version)
        with self.assertRaises(ConfigurationError):
            Client("http://x", "t").get_api_key("a")


class Page(unittest.TestCase):
    def test_the_python_of_the_documentation_compiles(self) -> None:
        page = pathlib.Path(__file__).parents[3] / "docs" / "clients.md"
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        self.assertGreaterEqual(len(blocks), 3)
        for block in blocks:
            compile(block, str(page), "exec")
