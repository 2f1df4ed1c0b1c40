"""Errors of the client. Errors of the connection stay those of httpx (`httpx.TransportError`)."""

from __future__ import annotations

from typing import Any

import httpx

from .types import Result


class VisageError(Exception):
    """Any error of this package."""


class ProblemError(VisageError):
    """The service refused a request."""

    def __init__(self, response: httpx.Response) -> None:
        body = _body(response)
        self.status = response.status_code
        """The HTTP status."""
        self.code: str | None = body.get("code")
        """The stable name of the problem, such as `not_a_video`; None if something in between answered."""
        self.detail: str = body.get("detail") or response.reason_phrase
        """What to do, in words."""
        self.request_id: str | None = response.headers.get("x-request-id")
        """The id under which the service has logged the request."""
        self.members = body
        """All members of the problem. Some problems have more, such as `field` or `missing`."""
        super().__init__(f"{self.status} {self.code or ''}: {self.detail}".replace(" :", ":"))


class AnalysisFailed(VisageError):
    """The analysis ended without a result."""

    def __init__(self, result: Result) -> None:
        self.result = result
        """The answer of the service. `status` is `failed` or `cancelled`."""
        error = result["error"]
        super().__init__(error["detail"] if error else f"the analysis was {result['status']}")


class WaitTimeout(VisageError, TimeoutError):
    """The analysis or batch had not ended when the time to wait was over. It goes on; wait again for the same."""

    def __init__(self, token: str, of: str = "analysis") -> None:
        self.token = token
        """The token of the analysis, or the id of the batch."""
        super().__init__(f"the {of} {token} has not ended yet")


class SessionEnded(VisageError):
    """A live session has ended, so there is no answer. If it had begun, its result is under the token."""

    def __init__(self, token: str | None) -> None:
        self.token = token
        super().__init__("the live session has ended")


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
