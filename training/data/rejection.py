"""Why records are not fit to train on."""

from enum import StrEnum, auto


class Reason(StrEnum):
    """The names that rejected records are counted under, in the order in which a record is looked at."""

    NOT_JSON = auto()
    WRONG_TYPE = auto()
    MISSING_KEY = auto()
    BROKEN_UNICODE = auto()
    NO_TURNS = auto()
    TURNS_NOT_ALTERNATING = auto()
    EMPTY_TURN = auto()
    UNTAGGED_TURN = auto()
    STRAY_CLOSING_TAG = auto()
    STAGE_NOT_CLOSED = auto()
    STAGE_REPEATED = auto()
    STAGE_MISSING = auto()
    STAGES_OUT_OF_ORDER = auto()
    TEXT_OUTSIDE_STAGES = auto()
    STAGE_EMPTY = auto()
    IMAGE_OUTSIDE_FOLDER = auto()
    IMAGE_MISSING = auto()
    IMAGE_UNREADABLE = auto()


MAX_DETAIL = 200


class Rejected(Exception):
    """A record is not fit to train on, for the first reason that was met; its text is one short line to print."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__("".join(map(_printable, detail[:MAX_DETAIL])))
        self.reason = reason


def _printable(char: str) -> str:
    return char if char.isprintable() else "\N{REPLACEMENT CHARACTER}"
