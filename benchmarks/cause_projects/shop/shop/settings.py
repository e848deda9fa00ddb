"""The settings of the training."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "conf"


def read_settings() -> dict:
    """What ``conf/train.json`` says."""
    return json.loads((FOLDER / "train.json").read_text(encoding="utf-8"))
