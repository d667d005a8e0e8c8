"""What the server refuses, in Google's words."""

from __future__ import annotations


class EarthEngineError(Exception):
    """An answer with an error status; the message is what the client raises."""

    def __init__(self, message: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status


class NotBuilt(EarthEngineError):
    """Something of the real service that this server has not: a gap of the tests, never a fault.

    Its code is 400, for the client would try a 5xx again.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"the local Earth Engine has no {what}", 400, "UNIMPLEMENTED")
