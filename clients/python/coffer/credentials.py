"""Who the client is: a token as given, a file that holds one, or a workload's own identity exchanged for one."""

from __future__ import annotations

import os
import threading
import time
import urllib.parse
import weakref
from typing import Callable, Optional, Tuple

from .errors import ApiError, CofferError, ConfigurationError, Unreachable
from .transport import Answer, Secret, Transport, failure_of, random_source, retry_after

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
#: Of a token's life; then it is renewed, workers of one job not all at once.
RENEW_AFTER = (0.7, 0.8)
RENEW_AGAIN_SECONDS = 5.0


def read_token(path: str) -> Secret:
    try:
        with open(path, encoding="utf-8") as file:
            # Never plain text in this frame: what is raised below may be shown with the locals of its frames.
            token = Secret(file.read().strip())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
    else:
        if token.reveal():
            return checked(token)
        reason = "it is empty"
    raise ConfigurationError(f"The token file {path} is not to be read: {reason}")


def checked(token: Secret) -> Secret:
    """A token fit for a header: what refuses another one later would quote it."""
    if not all("!" <= character <= "~" for character in token.reveal()) or not token.reveal():
        raise ConfigurationError("The token has characters that no token has.")
    return token


class Credentials:
    """A token that does not change."""

    kind = "token"

    def __init__(self, token: Optional[Secret] = None) -> None:
        self._token = token

    def token(self) -> Secret:
        if self._token is None:
            raise ConfigurationError("There is no token.")
        return self._token

    def renew(self, refused: Secret) -> bool:
        """After a 401: whether there is now a token other than `refused`."""
        return False


class FileCredentials(Credentials):
    """The file's content, read again whenever the file is another one, and after a 401."""

    kind = "token file"

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._lock = _lock_for(self)
        self._seen: Optional[Tuple[int, int, int]] = None

    def token(self) -> Secret:
        with self._lock:
            seen = self._state()
            if self._token is None or seen is None or seen != self._seen:
                self._token = read_token(self._path)
                self._seen = seen
            return self._token

    def renew(self, refused: Secret) -> bool:
        with self._lock:
            self._token = None
        return self.token().reveal() != refused.reveal()

    def _state(self) -> Optional[Tuple[int, int, int]]:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


class ExchangeCredentials(Credentials):
    """An access token for a subject token. Renewed before it expires, by one thread while the others wait; while the
    old one is good, for one attempt at most."""

    kind = "token exchange"

    def __init__(
        self, transport: Transport, base_url: str, client_id: str, subject_token: Callable[[], Secret]
    ) -> None:
        super().__init__()
        self._transport = transport
        self._base_url = base_url
        self._client_id = client_id
        self._subject_token = subject_token
        self._lock = _lock_for(self)
        self._renew_at = 0.0
        self._expires_at = 0.0
        self._again_seconds = RENEW_AGAIN_SECONDS

    def token(self) -> Secret:
        with self._lock:
            now = time.monotonic()
            if self._token is not None and now < self._renew_at:
                return self._token
            if self._token is not None and now < self._expires_at:
                return self._renewed(self._token)
            return self._exchange(patient=True)

    def renew(self, refused: Secret) -> bool:
        with self._lock:
            if self._token is refused:
                self._token = None
        return self.token() is not refused

    def _renewed(self, old: Secret) -> Secret:
        """Another token than `old`, which is still good; or `old`, where the broker just now gives none."""
        try:
            return self._exchange(patient=False)
        except (ApiError, Unreachable) as error:
            # What is wrong on the broker's side, or on the way to it, says nothing of who we are.
            is_passing = isinstance(error, Unreachable) or error.status == 429 or error.status >= 500
            if not is_passing:
                raise
        now = time.monotonic()
        if now >= self._expires_at:
            return self._exchange(patient=True)
        self._renew_at = min(now + self._again_seconds, self._expires_at)
        return old

    def _exchange(self, *, patient: bool) -> Secret:
        asked_at = time.monotonic()
        answer = self._transport.send_patiently(
            lambda: self._transport.send(
                "POST", "/auth/token", body=self._form(), content_type="application/x-www-form-urlencoded"
            ),
            patient=patient,
        )
        self._again_seconds = max(RENEW_AGAIN_SECONDS, retry_after(answer))
        if answer.status != 200:
            raise failure_of(answer, self._base_url)
        token, life = _granted(answer)
        self._token = token
        self._expires_at = asked_at + life
        self._renew_at = asked_at + life * random_source.uniform(*RENEW_AFTER)
        return self._token

    def _form(self) -> Secret:
        form = {
            "grant_type": EXCHANGE,
            "client_id": self._client_id,
            "subject_token": self._subject_token().reveal(),
            "subject_token_type": JWT,
        }
        # It must not raise, with the token in this frame: an id that is not to be encoded is the broker's to refuse.
        return Secret(urllib.parse.urlencode(form, errors="replace"))


def _granted(answer: Answer) -> Tuple[Secret, float]:
    granted = answer.json()
    is_whole = isinstance(granted, dict) and isinstance(granted.get("access_token"), str)
    if is_whole and isinstance(granted.get("expires_in"), (int, float)):
        token, life, granted = Secret(granted["access_token"]), granted["expires_in"], None
        return checked(token), float(life)
    granted = None
    raise CofferError("The broker's answer has no access token.")


def choose_credentials(
    transport: Transport,
    base_url: str,
    *,
    token: Optional[Secret],
    token_file: Optional[str],
    client_id: Optional[str],
    subject_token_file: Optional[str],
    subject_token: Optional[Callable[[], str]],
) -> Credentials:
    """What was given, else what the environment says: a token before a file before an exchange."""
    if not (token or token_file or client_id or subject_token_file or subject_token):
        if os.environ.get("COFFER_TOKEN"):
            token = Secret(os.environ["COFFER_TOKEN"])
        token_file = os.environ.get("COFFER_TOKEN_FILE")
    if token is not None:
        return Credentials(checked(Secret(token.reveal().strip())))
    if token_file:
        return FileCredentials(token_file)
    client_id = client_id or os.environ.get("COFFER_CLIENT_ID")
    path = subject_token_file or os.environ.get("COFFER_SUBJECT_TOKEN_FILE") or ""
    if client_id and subject_token is not None:
        ask = subject_token
        return ExchangeCredentials(transport, base_url, client_id, lambda: checked(Secret(ask().strip())))
    if client_id and path:
        return ExchangeCredentials(transport, base_url, client_id, lambda: read_token(path))
    raise ConfigurationError(
        "Who are we? Give token or token_file, or client_id with subject_token_file; or set COFFER_TOKEN, "
        "COFFER_TOKEN_FILE, or COFFER_CLIENT_ID and COFFER_SUBJECT_TOKEN_FILE."
    )


class _ForkSafeLock:
    """A lock that is free in a forked child, whoever held it in the parent at that moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        self._lock = threading.Lock()


_locks: "weakref.WeakSet[_ForkSafeLock]" = weakref.WeakSet()


def _lock_for(_: Credentials) -> _ForkSafeLock:
    lock = _ForkSafeLock()
    _locks.add(lock)
    return lock


def _renew_locks() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
