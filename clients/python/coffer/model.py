"""What the broker answers, typed. A value is in no repr."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Dict, Mapping, Optional, TypedDict, Union

from .errors import Withheld


class _S3Required(TypedDict):
    access_key_id: str
    secret_access_key: str


class S3Value(_S3Required, total=False):
    session_token: str
    region: str
    bucket: str
    endpoint: str
    force_path_style: bool


class _ContainerRegistryRequired(TypedDict):
    registry: str
    username: str
    password: str


class ContainerRegistryValue(_ContainerRegistryRequired, total=False):
    email: str


#: A string (`custom`), or an object with the fields of S3Value or ContainerRegistryValue.
Value = Union[str, Dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """One secret: what is known of it and, where it was asked for and may be seen, its value. Times are RFC 3339."""

    id: str
    ref: str
    owner_type: str
    owner_id: str
    path: str
    name: str
    type: str
    version: int
    decrypted: bool = False
    value: Optional[Value] = field(default=None, repr=False)
    withheld: Optional[str] = None
    description: Optional[str] = None
    labels: Mapping[str, str] = field(default_factory=dict)
    storage: Optional[str] = None
    manager: Optional[str] = None
    location: Optional[Mapping[str, Any]] = None
    etag: Optional[str] = None
    created_at: Optional[str] = None
    created_by: Optional[str] = None
    updated_at: Optional[str] = None
    updated_by: Optional[str] = None
    last_accessed_at: Optional[str] = None
    expires_at: Optional[str] = None
    rotate_after_days: Optional[int] = None
    rotation_due_at: Optional[str] = None
    deleted_at: Optional[str] = None
    purge_at: Optional[str] = None

    @classmethod
    def from_json(cls, answered: Mapping[str, Any]) -> "Setting":
        """Fields that this version does not know are passed over."""
        return cls(**{name: answered[name] for name in _NAMES if name in answered})

    @property
    def reference(self) -> str:
        """What a job is given in place of the value; it follows later versions."""
        return f"coffer://{self.ref}"

    def reveal(self) -> Value:
        """The value. Raises Withheld where there is none to be seen."""
        if not self.decrypted or self.value is None:
            raise Withheld(self.path, self.withheld or "not_asked_for")
        return self.value


_NAMES = tuple(each.name for each in fields(Setting))
