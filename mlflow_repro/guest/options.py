"""What of a run is recorded."""

from __future__ import annotations

from dataclasses import dataclass

_SWITCHES = {
    "git": "log_code",
    "code": "log_code",
    "env": "log_environment",
    "environment": "log_environment",
    "machine": "log_environment",
    "data": "log_data",
    "seed": "log_rng",
    "seeds": "log_rng",
}


@dataclass(frozen=True, kw_only=True)
class AutologOptions:
    """What `mlflow_repro.autolog` was asked to record; without it, everything."""

    disable: bool = False
    log_code: bool = True
    log_environment: bool = True
    log_data: bool = True
    log_rng: bool = True
    rng_trace: bool = False

    def keeps(self, name: str) -> bool:
        """Say whether a fact or a section of the record, by its dotted name, is wanted."""
        switch = _SWITCHES.get(name.partition(".")[0])
        return not self.disable and (switch is None or bool(getattr(self, switch)))
