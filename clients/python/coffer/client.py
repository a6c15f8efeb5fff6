"""The client: what a worker, a notebook or a service holds in its hands.

Safe in threads and in forked workers. A reference is answered with its value or with an error, never with itself.
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.parse
from typing import Any, Callable, Dict, List, Mapping, MutableMapping, Optional, Sequence, Tuple, Union

from . import references
from .answers import Resolved, has_passing_item, page_of, sort_results
from .credentials import choose_credentials
from .errors import ConfigurationError, ReferenceFailed, ReferenceProblem
from .model import Setting, Value
from .transport import Answer, Secret, Transport, failure_of

DEFAULT_URL = "http://127.0.0.1:7420"
REFERENCES_PER_CALL_MAX = 100
NOT_JSON = "The value or the metadata is not to be written as JSON: bytes are not, and a time is RFC 3339 text."


class Client:
    """A broker, and who we are to it. What is not given comes from the environment.

    `base_url` (COFFER_URL); `token` (COFFER_TOKEN), or `token_file` (COFFER_TOKEN_FILE), read again when it changes,
    or `client_id` (COFFER_CLIENT_ID) with a workload's own identity: `subject_token_file`
    (COFFER_SUBJECT_TOKEN_FILE) or `subject_token`, a function that gets one. `owner` (COFFER_OWNER), as
    `project/<id>`, is whose the bare names of `store_api_key` and `get_api_key` are. `timeout` is for one attempt,
    `retry_seconds` for all waiting between attempts.
    """

    def __init__(
        self,
        base_url: Optional[str] = None,
        token: Optional[str] = None,
        token_file: Optional[str] = None,
        *,
        client_id: Optional[str] = None,
        subject_token_file: Optional[str] = None,
        subject_token: Optional[Callable[[], str]] = None,
        owner: Optional[str] = None,
        timeout: float = 30.0,
        retry_seconds: float = 60.0,
        ssl_context: Optional[ssl.SSLContext] = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # Out of this frame at once: what is raised below may be shown with the locals of its frames.
        given, token = (None if token is None else Secret(token)), None
        self._base_url = _checked_url(base_url or os.environ.get("COFFER_URL") or DEFAULT_URL)
        self._owner = owner or os.environ.get("COFFER_OWNER") or None
        if self._owner is not None:
            references.split_owner(self._owner)
        self._transport = Transport(
            self._base_url,
            timeout=timeout,
            retry_seconds=retry_seconds,
            ssl_context=ssl_context,
            sleep=sleep,
        )
        self._credentials = choose_credentials(
            self._transport,
            self._base_url,
            token=given,
            token_file=token_file,
            client_id=client_id,
            subject_token_file=subject_token_file,
            subject_token=subject_token,
        )

    def __repr__(self) -> str:
        # Also of one that could not be made: a debugger shows those too.
        if not hasattr(self, "_credentials"):
            return "Client(unfinished)"
        return f"Client({self._base_url!r}, {self._credentials.kind})"

    def __reduce__(self) -> str:
        raise TypeError("a Client is not pickled: it holds a token. Make one in each process.")

    # Settings

    def get_settings(
        self,
        owner_type: str,
        owner_id: str,
        path: Optional[str] = None,
        decrypt: bool = False,
        *,
        version: Optional[int] = None,
        match: Optional[str] = None,
        type: Optional[str] = None,
        label: Optional[str] = None,
        on_error: Optional[str] = None,
    ) -> List[Setting]:
        """All matching settings, over as many pages as there are. A row that the caller may not open is there too,
        with `withheld` saying why; `Setting.reveal()` raises for it."""
        query = _given(
            owner_type=owner_type,
            owner_id=owner_id,
            path=path,
            decrypt="true" if decrypt else None,
            version=version,
            match=match,
            type=type,
            label=label,
            on_error=on_error,
        )
        found: List[Setting] = []
        while True:
            page = self._call("GET", "/settings", query)
            settings, cursor = page_of(page)
            found.extend(settings)
            if cursor is None:
                return found
            query["cursor"] = cursor

    def get_value(
        self,
        owner_type: str,
        owner_id: str,
        path: str,
        *,
        version: Optional[int] = None,
        field: Optional[str] = None,
    ) -> Resolved:
        """One value, strictly: never an answer without it."""
        query = _given(owner_type=owner_type, owner_id=owner_id, path=path, version=version, field=field)
        value: Resolved = self._call("GET", "/settings/value", query).json()["value"]
        return value

    def put(
        self,
        owner_type: str,
        owner_id: str,
        path: str,
        value: Value,
        *,
        if_match: Optional[str] = None,
        if_none_match: Optional[str] = None,
        **metadata: Any,
    ) -> Setting:
        """Writes a value. `metadata`: description, labels, storage, manager, expires_at, rotate_after_days."""
        # Out of this frame before anything is raised.
        body, value = _encoded({"value": value, **metadata}), ""
        if body is None:
            raise ConfigurationError(NOT_JSON)
        query = _given(owner_type=owner_type, owner_id=owner_id, path=path)
        conditions = {"If-Match": if_match, "If-None-Match": if_none_match}
        headers = {name: text for name, text in conditions.items() if text is not None}
        # With a condition, a second attempt would be judged by what the first one wrote; without, it makes no
        # version of an equal value, for whoever may decrypt.
        answer = self._call("PUT", "/settings", query, body, headers, harmless=not headers)
        return Setting.from_json(answer.json())

    def store_api_key(
        self, api_key: str, name: str, *, owner: Optional[str] = None, **metadata: Any
    ) -> Tuple[str, int]:
        """Stores a key and returns `(reference, version)`: the reference to exactly what was stored, to be passed
        round in place of it. `name` is a bare name (`secret/Custom/<name>` of the owner), a path, or a whole
        reference."""
        secret, api_key = Secret(api_key), ""
        address = references.address_of(name, owner or self._owner)
        setting = self.put(*address, secret.reveal(), **metadata)
        return references.format_reference(address, setting.version), setting.version

    def get_api_key(
        self, name: str, version: Union[int, str, None] = None, *, owner: Optional[str] = None
    ) -> str:
        """The reference to a key, made without asking the broker. Without a version, or with "latest", it follows
        the newest one."""
        return references.format_reference(references.address_of(name, owner or self._owner), version)

    # References

    def resolve(self, value: str) -> Resolved:
        """The value that a reference stands for; text that is no reference is returned as it is.

        Raises ReferenceFailed where a reference gives no value. It never returns the reference.
        """
        if not references.is_reference(value):
            return value
        reference = value.strip()
        return self._resolve_all([(references.told(reference), reference)])[0]

    def resolve_environ(
        self, environ: Optional[MutableMapping[str, str]] = None, *, apply: bool = True
    ) -> Dict[str, str]:
        """Resolves every variable that holds a reference (`coffer://…`, `_SECRET_-…`), in one call: all of them, or
        ReferenceFailed names those that fail and nothing is changed. Returns them, and with `apply` puts them in
        their places. Composite values are JSON."""
        variables = os.environ if environ is None else environ
        wanted = [(name, text.strip()) for name, text in variables.items() if references.has_scheme(text)]
        values = [_as_text(value) for value in self._resolve_all(wanted)]
        resolved = {name: value for (name, _), value in zip(wanted, values)}
        if apply:
            variables.update(resolved)
        return resolved

    def explain(self, refs: Sequence[str]) -> List[Dict[str, Any]]:
        """What each would resolve to, or what stops it; opens nothing."""
        results: List[Dict[str, Any]] = []
        for start in range(0, len(refs), REFERENCES_PER_CALL_MAX):
            results += self._results(list(refs[start : start + REFERENCES_PER_CALL_MAX]), explain=True).json()["results"]
        return results

    # Within

    def _resolve_all(self, wanted: Sequence[Tuple[str, str]]) -> List[Resolved]:
        """Values in the order of `wanted`, pairs of what to call it and the reference."""
        refs = list(dict.fromkeys(reference for _, reference in wanted))
        values: Dict[str, Any] = {}
        failures: Dict[str, Tuple[int, str, str]] = {}
        for start in range(0, len(refs), REFERENCES_PER_CALL_MAX):
            part = refs[start : start + REFERENCES_PER_CALL_MAX]
            sort_results(part, self._results(part, explain=False), values, failures)
        if failures:
            values.clear()
            raise ReferenceFailed(
                [ReferenceProblem(name, *failures[ref]) for name, ref in wanted if ref in failures]
            )
        return [values[reference] for _, reference in wanted]

    def _results(self, refs: List[str], *, explain: bool) -> Answer:
        body = _encoded({"refs": refs, **({"explain": True} if explain else {})})
        if body is None:
            raise ConfigurationError("References are text.")
        heard: List[Answer] = []

        def attempt() -> Answer:
            heard[:] = [self._send("POST", "/settings/resolve", body)]
            # An item that is away just now is asked for again, with all the others.
            return Answer(503, heard[0].headers) if has_passing_item(heard[0]) else heard[0]

        self._transport.send_patiently(attempt)
        return self._success(heard[0])

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Optional[Secret] = None,
        headers: Optional[Mapping[str, str]] = None,
        *,
        harmless: bool = True,
    ) -> Answer:
        address = f"{path}?{urllib.parse.urlencode(query)}"
        return self._success(
            self._transport.send_patiently(
                lambda: self._send(method, address, body, headers), harmless=harmless
            )
        )

    def _send(
        self, method: str, address: str, body: Optional[Secret], headers: Optional[Mapping[str, str]] = None
    ) -> Answer:
        """One attempt; a refused token is renewed once where it can be."""
        token = self._credentials.token()
        answer = self._transport.send(method, address, token=token, body=body, headers=headers)
        if answer.status != 401 or not self._credentials.renew(token):
            return answer
        return self._transport.send(
            method, address, token=self._credentials.token(), body=body, headers=headers
        )

    def _success(self, answer: Answer) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        raise failure_of(answer, self._base_url)


def _checked_url(text: str) -> str:
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigurationError("The broker's address is http://… or https://…, without a query.")
    if parts.username is not None or parts.password is not None:
        text, parts = "", None  # type: ignore[assignment]
        raise ConfigurationError("The broker's address holds no user and no password.")
    return text.rstrip("/")


def _given(**parameters: Union[str, int, None]) -> Dict[str, str]:
    return {name: str(value) for name, value in parameters.items() if value is not None}


def _encoded(body: Dict[str, Any]) -> Optional[Secret]:
    """None for what is no JSON: what json raises has the value in its frames, and so has the caller's until it has
    cleared it. Then the caller raises."""
    try:
        return Secret(json.dumps(body))
    except Exception:
        return None


def _as_text(value: Resolved) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
