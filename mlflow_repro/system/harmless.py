"""Keep what goes wrong in the plugin away from the program that it is a guest of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType


class harmless:  # noqa: N801 - used as a context manager, like `contextlib.suppress`
    """While it lasts, no exception gets out but KeyboardInterrupt, which is the user's: not even SystemExit."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return kind is not None and not issubclass(kind, KeyboardInterrupt)
