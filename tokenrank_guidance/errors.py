"""The library's own exceptions; a malformed argument is a plain ``ValueError``."""


class TokenRankError(Exception):
    """Base of every error that this library defines."""


class ConvergenceError(TokenRankError, RuntimeError):
    """An iteration used up its steps before it met its tolerance."""


class CaptureError(TokenRankError, RuntimeError):
    """A model's attention could not be seen."""


class UnsupportedError(TokenRankError, ValueError):
    """Arguments that are valid one by one make a combination that is refused."""
