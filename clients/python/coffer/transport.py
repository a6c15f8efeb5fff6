"""HTTP over urllib: one connection for each call, so nothing is shared between threads or across a fork.

No redirect is followed: a token goes to the broker and to nobody else.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, Optional

from .errors import ApiError, CofferError, Unreachable

BODY_BYTES_MAX = 32 * 1024 * 1024
BACKOFF_SECONDS_FIRST = 0.2
BACKOFF_SECONDS_MAX = 10.0
# Each forked worker draws its own: the operating system's randomness has no state to be copied.
random_source = random.SystemRandom()


class Secret:
    """Text that no print, format or pickle shows."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "[redacted]"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True)
class Answer:
    """Status 0: there was none, and `reason` says why."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    reason: str = ""

    def json(self) -> Any:
        # What json raises quotes its input: a value, perhaps.
        parsed, is_json = _parsed(self.body)
        if not is_json:
            raise CofferError("The broker's answer is not JSON. Is this the broker's address?")
        return parsed

    def is_ours(self) -> bool:
        """Told by the broker itself, not by something on the way to it."""
        return "json" in self.headers.get("content-type", "")


def _parsed(body: bytes) -> "tuple[Any, bool]":
    try:
        return json.loads(body), True
    except ValueError:
        return None, False


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Transport:
    def __init__(
        self,
        base_url: str,
        *,
        timeout: float,
        retry_seconds: float,
        ssl_context: Optional[ssl.SSLContext],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._base_url = base_url
        self._timeout = timeout
        self._retry_seconds = retry_seconds
        self._sleep = sleep
        handlers = [
            # Of the environment alone: asking macOS for its proxies is not safe in a forked child.
            urllib.request.ProxyHandler(urllib.request.getproxies_environment()),
            urllib.request.HTTPSHandler(context=ssl_context),
            _NoRedirects(),
        ]
        self._opener = urllib.request.build_opener(*handlers)

    def send(
        self,
        method: str,
        path: str,
        *,
        token: Optional[Secret] = None,
        body: Optional[Secret] = None,
        content_type: str = "application/json",
        headers: Optional[Mapping[str, str]] = None,
    ) -> Answer:
        """One attempt. Raises nothing: what urllib raises carries our headers in its frames."""
        request = urllib.request.Request(self._base_url + path, method=method, headers=dict(headers or {}))
        request.add_header("Accept", "application/json")
        request.add_header("User-Agent", "coffer-python/0.1.0")
        if body is not None:
            request.data = body.reveal().encode()
            request.add_header("Content-Type", content_type)
        if token is not None:
            request.add_unredirected_header("Authorization", f"Bearer {token.reveal()}")
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                return _read(response.status, response)
        except urllib.error.HTTPError as error:
            try:
                return _read(error.code, error)
            except (OSError, http.client.HTTPException) as cut:
                return Answer(0, reason=type(cut).__name__)
            finally:
                error.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            return Answer(0, reason=_worded(cause))

    def send_patiently(
        self, attempt: Callable[[], Answer], *, harmless: bool = True, patient: bool = True
    ) -> Answer:
        """Tries again while that can help, within `retry_seconds`; once only where not `patient`. The last answer,
        whatever it is. Not `harmless`: what was done already must not be done again."""
        started = time.monotonic()
        tries = 0
        while True:
            answer = attempt()
            if not patient or not _is_passing(answer, harmless):
                return answer
            backoff = min(BACKOFF_SECONDS_MAX, BACKOFF_SECONDS_FIRST * 2**tries)
            # Never sooner than told, and not all at the same moment.
            wait = retry_after(answer) + random_source.uniform(0, backoff)
            if time.monotonic() - started + wait > self._retry_seconds:
                return answer
            self._sleep(wait)
            tries += 1


def _read(status: int, response: Any) -> Answer:
    body = response.read(BODY_BYTES_MAX + 1)
    headers = {name.lower(): text for name, text in response.headers.items()}
    if len(body) > BODY_BYTES_MAX:
        return Answer(status, headers, b"", "the answer is too large")
    return Answer(status, headers, body)


def _worded(cause: object) -> str:
    return (cause.strerror if isinstance(cause, OSError) else None) or type(cause).__name__


def _is_passing(answer: Answer, harmless: bool) -> bool:
    # Of these, 429 alone says that nothing was done: the broker's own 503 and a proxy's may come after the commit.
    if not harmless:
        return answer.status == 429
    # A proxy says 502 and 504 of a broker that is being restarted; the broker's own 502 does not pass.
    return answer.status in (0, 429, 503) or (answer.status in (502, 504) and not answer.is_ours())


def retry_after(answer: Answer) -> float:
    given = answer.headers.get("retry-after", "").strip()
    if given.isdigit():
        return float(given)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(given).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def failure_of(answer: Answer, base_url: str) -> CofferError:
    """What an answer that is no success says."""
    if answer.status == 0:
        return Unreachable(f"No answer from {base_url}: {answer.reason}")
    if 300 <= answer.status < 400:
        return CofferError(f"{base_url} answers with a redirect, which is not followed: use the address it names.")
    problem, _ = _parsed(answer.body)
    known = problem if isinstance(problem, dict) else {}
    code = known.get("code") or known.get("error") or "unknown"
    detail = known.get("detail") or known.get("error_description") or "The answer says no more."
    return ApiError(answer.status, str(code), str(detail), known.get("request_id"))
