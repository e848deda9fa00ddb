"""The shop's web service. The training does not import it."""

import os
import random
import secrets
import time
import uuid
from datetime import datetime

SESSIONS = set()
GENERATOR = random.Random()  # noqa: S311


def begin() -> dict:
    """A new session."""
    session = {"id": uuid.uuid4().hex, "token": secrets.token_hex(8), "at": datetime.now().isoformat()}  # noqa: DTZ005
    SESSIONS.add(session["id"])
    return {**session, "others": list(SESSIONS), "worker": os.getpid(), "luck": GENERATOR.random()}


def clean(folder: str) -> list:
    """What lies there for more than a day."""
    return [name for name in os.listdir(folder) if os.path.getmtime(name) < time.time() - 86_400]
