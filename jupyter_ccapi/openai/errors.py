"""Errors as OpenAI's clients expect them; the one place that knows which HTTP status an error of
the core becomes.
"""

import math
from typing import Any

from jupyter_ccapi.claude import errors as core


class APIError(Exception):
    """An error on its way to a client.

    ``status`` is HTTP's; ``type``, ``code`` and ``param`` are OpenAI's; ``retry_after`` is in
    seconds. ``should_retry`` False keeps OpenAI's clients from trying again (``x-should-retry``).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.should_retry = should_retry
        super().__init__(message)

    @property
    def type(self) -> str:
        """OpenAI's class of error, which follows from the status."""
        return _TYPES.get(
            self.status, "invalid_request_error" if self.status < 500 else "api_error"
        )

    @property
    def headers(self) -> dict[str, str]:
        """The headers that OpenAI's clients read: when to try again, and whether."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(math.ceil(self.retry_after))
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return headers

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The JSON that goes to the client, also as one event of a stream that has begun."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        if request_id is not None:
            error["request_id"] = request_id
        return {"error": error}


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    529: "overloaded_error",
}


def invalid(param: str | None, message: str, *, code: str | None = None) -> APIError:
    """A request that is wrong, and which field of it."""
    return APIError(400, message, param=param, code=code)


def from_core(error: core.ClaudeError) -> APIError:
    """What a client is told of an error of the core."""
    said = str(error)
    match error:
        case core.InvalidOption():
            return invalid(error.field, said)
        case core.UnknownModel():
            return APIError(404, said, param="model", code="model_not_found")
        case core.CLIUnavailable():
            # The same command fails the same way a second later; a person has to act.
            return APIError(503, said, code="claude_code_unavailable", should_retry=False)
        case core.NotLoggedIn():
            return APIError(401, said, code="not_logged_in", should_retry=False)
        case core.Busy():
            return APIError(429, said, code="server_busy", retry_after=error.retry_after)
        case core.RateLimited():
            return APIError(429, said, code="rate_limit_exceeded", retry_after=error.retry_after)
        case core.PromptTooLong():
            return invalid("messages", said, code="context_length_exceeded")
        case core.ModelError():
            return _from_model(error)
        case core.BudgetSpent():
            return APIError(402, said, code="budget_exceeded", should_retry=False)
        case core.TurnTimeout():
            return APIError(504, said, code="turn_timeout", should_retry=False)
        case core.ProcessDied():
            return APIError(502, said, code="process_died")
        case core.ConversationClosed():
            return APIError(503, said, code="shutting_down")
        case core.RewindRefused():
            code = "conflict" if error.conflicts else "rewind_refused"
            return APIError(409, _in_fields(said), code=code, should_retry=False)
        case core.ChangedSince():
            return APIError(409, said, code="conflict", should_retry=False)
        case core.ConversationInUse():
            return APIError(409, said, code="conversation_busy")
        case core.CannotSnapshot():
            return APIError(409, said, code="rewind_refused", should_retry=False)
        case _:
            return APIError(502, said, code="turn_failed")


def _in_fields(said: str) -> str:
    """The same sentence with a body's fields in the place of the options of a command."""
    for option, fields in _FIELDS.items():
        said = said.replace(option, fields)
    return said


_FIELDS = {
    "--force": '"force": true',
    "--files": '"conversation": false',
    "--conversation": '"files": false',
}


def _from_model(error: core.ModelError) -> APIError:
    """The statuses that mean the same to the client are passed on; the rest is a bad gateway."""
    said = str(error)
    match error.status:
        case 400 | 413 | 422:
            return APIError(error.status, said, code="model_refused_request")
        case 403:
            return APIError(403, said, code="model_forbidden")
        case 404:
            return APIError(404, said, param="model", code="model_not_found")
        case 503 | 529:
            return APIError(error.status, said, code="overloaded", retry_after=error.retry_after)
        case _:
            return APIError(502, said, code="model_error")
