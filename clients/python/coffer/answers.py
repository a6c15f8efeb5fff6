"""Reading the broker's answers."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .errors import CofferError
from .model import Setting
from .transport import Answer

Resolved = Union[str, bool, Dict[str, Any]]


def page_of(answer: Answer) -> Tuple[List[Setting], Optional[str]]:
    page = answer.json()
    return [Setting.from_json(each) for each in page["settings"]], page["next_cursor"]


def has_passing_item(answer: Answer) -> bool:
    if answer.status != 200:
        return False
    results = answer.json().get("results", [])
    return any(item.get("status") in (429, 503) for item in results)


def sort_results(
    refs: Sequence[str],
    answer: Answer,
    values: Dict[str, Any],
    failures: Dict[str, Tuple[int, str, str]],
) -> None:
    results = answer.json()["results"]
    is_short = len(results) != len(refs)
    for reference, item in zip(refs, results):
        if item.get("status") == 200 and item.get("value") is not None:
            values[reference] = item["value"]
            continue
        told = (int(item.get("status", 0)), item.get("code", "unknown"), item.get("detail", "There is no value."))
        failures[reference] = told
    if is_short:
        results = item = None
        values.clear()
        raise CofferError("The broker answered some of the references only.")
