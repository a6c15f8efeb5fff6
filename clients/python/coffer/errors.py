"""What can go wrong. No message holds a value, a token, or text that might be one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence, Tuple


class CofferError(Exception):
    """Anything that this package raises."""


class ConfigurationError(CofferError):
    """The client was not told where the broker is, or who it is itself; or a file of that is not to be read; or it was
    given what cannot be sent."""


class Unreachable(CofferError):
    """No answer, after all attempts."""


class ApiError(CofferError):
    """The broker refused or failed. `code` is stable; `detail` is for people."""

    def __init__(self, status: int, code: str, detail: str, request_id: Optional[str] = None) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        told = "" if request_id is None else f" (request {request_id})"
        super().__init__(f"{status} {code}: {detail}{told}")

    def __reduce__(self) -> Tuple[object, ...]:
        return (ApiError, (self.status, self.code, self.detail, self.request_id))


@dataclass(frozen=True)
class ReferenceProblem:
    """One reference that did not resolve. `name` is where it stood: an environment variable, or the reference."""

    name: str
    status: int
    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.status} {self.code}: {self.detail}"


class ReferenceFailed(CofferError):
    """At least one reference has no value. Nothing was resolved in its place."""

    def __init__(self, problems: Sequence[ReferenceProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(each) for each in self.problems))

    def __reduce__(self) -> Tuple[object, ...]:
        return (ReferenceFailed, (self.problems,))


class Withheld(CofferError):
    """The setting exists, and its value is not for this caller; `reason` says why."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: its value is withheld: {reason}")

    def __reduce__(self) -> Tuple[object, ...]:
        return (Withheld, (self.path, self.reason))
