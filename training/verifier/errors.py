"""What can go wrong on the way to a verifier, each told in one line.

VerifierError
├── BadFile
└── ServerFailed
"""


class VerifierError(Exception):
    """Root of the tree."""


class BadFile(VerifierError):
    """A file cannot be read, or holds something else."""


class ServerFailed(VerifierError):
    """The server refused a request, or does not answer."""
