"""`python -m coffer run -- command…`: becomes the command, with the references in its environment resolved.

The command takes this process's place, so signals and exit codes are its own. Values are in its environment alone.
"""

from __future__ import annotations

import os
import sys
from typing import List, NoReturn

from .client import Client
from .errors import CofferError
from .references import has_scheme

CREDENTIALS = ("COFFER_TOKEN", "COFFER_TOKEN_FILE", "COFFER_CLIENT_ID", "COFFER_SUBJECT_TOKEN_FILE")
# As env, timeout and docker have it.
FAILED, NOT_RUNNABLE, NOT_FOUND = 125, 126, 127


def main(arguments: List[str]) -> int:
    if arguments[:1] != ["run"] or not arguments[1:]:
        sys.stderr.write("usage: python -m coffer run [--] command…\n")
        return 2
    command = arguments[2:] if arguments[1] == "--" else arguments[1:]
    if not command or command[0].startswith("-"):
        sys.stderr.write("usage: python -m coffer run [--] command…\n")
        return 2
    environment = {name: text for name, text in os.environ.items() if name not in CREDENTIALS}
    try:
        # Without a reference there is nobody to ask, and no token to ask with.
        if any(has_scheme(text) for text in environment.values()):
            Client().resolve_environ(environment)
    except CofferError as error:
        sys.stderr.write(f"coffer: {error}\n")
        return FAILED
    _become(command, environment)


def _become(command: List[str], environment: "dict[str, str]") -> NoReturn:
    code = NOT_RUNNABLE
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        code = NOT_FOUND
    except OSError:
        pass
    sys.stderr.write(f"coffer: {command[0]} could not be run\n")
    sys.exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
