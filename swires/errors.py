"""Everything that can go wrong in a search.

SwiresError
├── InvalidPlan
├── Overloaded
├── EngineError
├── ScorerError
└── DeadlineExceeded
"""


class SwiresError(Exception):
    """Root of the tree."""


class InvalidPlan(SwiresError):
    """The request asks for what cannot be done; `field` names the key at fault."""

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class Overloaded(SwiresError):
    """No room for one more search: `reason` says where; worth another try after `retry_after_s` seconds."""

    def __init__(self, message: str, *, reason: str = "waiting_full", retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s


class EngineError(SwiresError):
    """The engine failed on a request; `dead` when it will answer none any more."""

    def __init__(self, message: str, *, dead: bool = False) -> None:
        super().__init__(message)
        self.dead = dead


class ScorerError(SwiresError):
    """The scorer gave no usable score."""


class DeadlineExceeded(SwiresError):
    """Time ran out before there was any answer to return."""
