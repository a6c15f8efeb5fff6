"""References: text that names a setting and is passed round in place of its value.

What looks like one is never mistaken for a value: telling is lenient, resolving (the broker's) is strict.
"""

from __future__ import annotations

import re
from typing import Optional, Tuple, Union

from .errors import ConfigurationError

SCHEME = "coffer://"
COMET_PREFIX = "_SECRET_-"

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_OWNER = re.compile(rf"(organization|project|user)/({_UUID})\Z")
_BARE = re.compile(rf"(organization|project|user)/{_UUID}/\S")
_WELL_FORMED = re.compile(
    rf"(?:coffer://)?(?:organization|project|user)/{_UUID}/[A-Za-z0-9_.@/-]+(?:\?version=[0-9]+)?(?:#[A-Za-z0-9_]+)?\Z"
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}\Z")


def is_reference(text: str) -> bool:
    """Whether `text` stands for a value rather than being one."""
    trimmed = text.strip()
    return has_scheme(trimmed) or _BARE.match(trimmed) is not None


def has_scheme(text: str) -> bool:
    """The forms that are told for certain in an environment: `coffer://…` and `_SECRET_-…`."""
    trimmed = text.strip()
    return trimmed[: len(SCHEME)].lower() == SCHEME or trimmed.startswith(COMET_PREFIX)


def told(reference: str) -> str:
    """A reference as it may be shown: text that is none might hold a value that somebody put there."""
    return reference if _WELL_FORMED.match(reference) else "[not a well-formed reference]"


def split_owner(text: str) -> Tuple[str, str]:
    found = _OWNER.match(text)
    if found is None:
        raise ConfigurationError("An owner is <organization|project|user>/<id>.")
    return found.group(1), found.group(2)


def address_of(name: str, owner: Optional[str]) -> Tuple[str, str, str]:
    """`(owner_type, owner_id, path)` of a bare name, a path, or a reference without version and field."""
    text = name[len(SCHEME) :] if name.startswith(SCHEME) else name
    if _BARE.match(text):
        owner_type, owner_id, path = text.split("/", 2)
    elif owner is None:
        raise ConfigurationError("A bare name needs an owner: Client(owner='project/<id>') or COFFER_OWNER.")
    else:
        owner_type, owner_id = split_owner(owner)
        path = text if "/" in text else f"secret/Custom/{text}"
    if not all(_NAME.match(segment) for segment in path.split("/")):
        raise ConfigurationError("A name has letters, digits and . _ @ -, at most 64 of them, and no version or field.")
    return owner_type, owner_id, path


def format_reference(address: Tuple[str, str, str], version: Union[int, str, None]) -> str:
    if version is None or version == "latest":
        return SCHEME + "/".join(address)
    number = int(version)
    if number < 1:
        raise ConfigurationError("A version is a whole number from 1, or 'latest'.")
    return f"{SCHEME}{'/'.join(address)}?version={number}"
