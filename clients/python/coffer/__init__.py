"""A client for the Coffer secrets broker: reads, writes and resolves settings.

Values and tokens never appear in a repr, a message or a traceback made here.
"""

from .client import Client
from .errors import (
    ApiError,
    CofferError,
    ConfigurationError,
    ReferenceFailed,
    ReferenceProblem,
    Unreachable,
    Withheld,
)
from .model import ContainerRegistryValue, S3Value, Setting, Value
from .references import is_reference

__all__ = [
    "ApiError",
    "Client",
    "CofferError",
    "ConfigurationError",
    "ContainerRegistryValue",
    "ReferenceFailed",
    "ReferenceProblem",
    "S3Value",
    "Setting",
    "Unreachable",
    "Value",
    "Withheld",
    "is_reference",
]
__version__ = "0.1.0"
