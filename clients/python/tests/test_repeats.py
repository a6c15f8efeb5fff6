"""What is done once more and what is not: writes that may have been made already, and the renewal of a token."""

from __future__ import annotations

import time
from typing import Dict, List, Optional

from coffer import ApiError, Client, CofferError

from .test_faults import GOOD, REFERENCE, TOKEN, VALUE, FaultTest, Reply, Stub, problem

GRANTED: Reply = (200, {}, {"access_token": TOKEN, "expires_in": 900})
STORED: Reply = (200, {}, {
    "id": "i", "ref": "r", "owner_type": "project", "owner_id": "x", "path": "p", "name": "n", "type": "custom",
    "version": 2,
})


def proxy(status: int) -> Reply:
    return status, {"Content-Type": "text/html"}, "<h1>Bad gateway</h1>"


UNKNOWN: Dict[str, Optional[Reply]] = {
    "no answer": None,
    "the broker's 503": problem(503),
    "a proxy's 502": proxy(502),
    "a proxy's 503": proxy(503),
    "a proxy's 504": proxy(504),
}


class Writes(FaultTest):
    def put(self, server: Stub, **conditions: str) -> int:
        return self.client(server).put("project", "x", "secret/Custom/a", "v", **conditions).version

    def test_one_with_a_condition_that_may_have_been_made_is_not_sent_again(self) -> None:
        for what, reply in UNKNOWN.items():
            for conditions in ({"if_match": '"1"'}, {"if_none_match": "*"}):
                with self.subTest(what, **conditions):
                    # What a second attempt would be told: the condition has ceased to hold by our own doing.
                    server = self.stub(reply, problem(412))
                    with self.assertRaises(CofferError) as caught:
                        self.put(server, **conditions)
                    self.assertNotEqual(getattr(caught.exception, "status", 0), 412)
                    self.assertEqual((len(server.asked), self.waits), (1, []))

    def test_one_that_was_not_let_in_is_and_so_is_one_without_a_condition(self) -> None:
        self.assertEqual(self.put(self.stub(problem(429), STORED), if_match='"1"'), 2)
        for what, reply in UNKNOWN.items():
            with self.subTest(what):
                self.assertEqual(self.put(self.stub(reply, STORED)), 2)


class Renewals(FaultTest):
    def exchanging(self, *grants: Optional[Reply]) -> "tuple[Stub, Client]":
        """A client whose token is due for renewal and good for long. It gets these grants, then good ones."""
        left: List[Optional[Reply]] = [GRANTED, *grants, GRANTED]
        next_grant = lambda: left.pop(0) if len(left) > 1 else left[0]
        server = self.serve(lambda path, *_: next_grant() if path == "/auth/token" else GOOD)
        client = self.client(server, client_id="id", subject_token=lambda: "subject")
        client.resolve(REFERENCE)
        client._credentials._renew_at = 0.0
        return server, client

    def test_while_the_old_token_is_good_a_broker_that_is_away_is_asked_once_and_waited_for_by_nobody(self) -> None:
        for what, grant in {**UNKNOWN, "429": problem(429), "the broker's 500": problem(500)}.items():
            with self.subTest(what):
                server, client = self.exchanging(grant)
                self.assertEqual([client.resolve(REFERENCE) for _ in range(3)], [VALUE] * 3)
                self.assertEqual((server.asked.count("/auth/token"), self.waits), (2, []))

    def test_the_next_attempt_is_never_sooner_than_told(self) -> None:
        for told, least in (("60", 60.0), ("1", 5.0)):
            _, client = self.exchanging(problem(503, {"Retry-After": told}))
            asked_at = time.monotonic()
            client.resolve(REFERENCE)
            self.assertAlmostEqual(client._credentials._renew_at - asked_at, least, delta=2.0)

    def test_a_refusal_is_told_though_the_old_token_is_good(self) -> None:
        _, client = self.exchanging(problem(400))
        with self.assertRaises(ApiError):
            client.resolve(REFERENCE)

    def test_without_a_good_token_patience_is_as_ever(self) -> None:
        server, client = self.exchanging(problem(503))
        client._credentials._expires_at = 0.0
        self.assertEqual(client.resolve(REFERENCE), VALUE)
        self.assertEqual((server.asked.count("/auth/token"), len(self.waits)), (3, 1))
