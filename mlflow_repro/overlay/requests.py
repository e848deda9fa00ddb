"""Look at what MLflow's clients send to a tracking server past the methods of its stores: it must not write."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from mlflow_repro.overlay.answers import refuse
from mlflow_repro.overlay.calls import is_known, is_passing

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.overlay.session import Session

_READING = ("GET", "HEAD", "OPTIONS")
# The interface of a tracking server, and not that of a server of models or of language models.
_OF_A_STORE = re.compile(r"/(?:ajax-)?api/\d+\.\d+/(?:mlflow|preview/mlflow)")


def wrap_request(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    """The function that all requests of MLflow's clients go through."""

    @functools.wraps(original)
    def request(method: str, url: str, *arguments: Any, **named: Any) -> Any:
        is_write = str(method).upper() not in _READING and _OF_A_STORE.search(str(url))
        if is_write and not (is_known() or is_passing()):
            words = f"the request {method} {str(url).partition('?')[0].rpartition('@')[2]}"
            session.ledger.tell("held", words)
            refuse(words)
        return original(method, url, *arguments, **named)

    return request
