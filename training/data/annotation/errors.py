"""Everything that can go wrong in an annotation run, each told in one line.

AnnotationError
├── TeacherFailed
├── Stopped
└── Unanswered
    └── BadImage
"""


class AnnotationError(Exception):
    """Root of the tree: the run cannot begin or go on."""


class TeacherFailed(AnnotationError):
    """The teacher will answer no call any more."""


class Stopped(AnnotationError):
    """The run has been told to end before the call was sent."""


class Unanswered(AnnotationError):
    """This call has no answer, others may; `reason` is the name that its turn is counted under."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class BadImage(Unanswered):
    """The picture is not there or is none: no further run would change that."""
