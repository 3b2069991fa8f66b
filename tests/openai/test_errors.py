"""Which HTTP status and OpenAI code each error of the core becomes."""

import pytest

from jupyter_ccapi.claude import errors as core
from jupyter_ccapi.openai.errors import from_core


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (core.InvalidOption("effort", "No."), 400, "invalid_request_error", None),
        (core.UnknownModel("gpt-9", ["opus"]), 404, "invalid_request_error", "model_not_found"),
        (core.CLINotFound("No."), 503, "service_unavailable_error", "claude_code_unavailable"),
        (core.CLIStartFailed("No."), 503, "service_unavailable_error", "claude_code_unavailable"),
        (core.NotLoggedIn(), 401, "authentication_error", "not_logged_in"),
        (core.QueueFull("No.", retry_after=1), 429, "rate_limit_error", "server_busy"),
        (core.QueueTimeout("No.", retry_after=1), 429, "rate_limit_error", "server_busy"),
        (core.RateLimited("No.", status=429), 429, "rate_limit_error", "rate_limit_exceeded"),
        (core.Overloaded("No.", status=529), 529, "overloaded_error", "overloaded"),
        (core.Overloaded("No.", status=503), 503, "service_unavailable_error", "overloaded"),
        (core.ModelError("No.", status=400), 400, "invalid_request_error", "model_refused_request"),
        (core.ModelError("No.", status=404), 404, "invalid_request_error", "model_not_found"),
        (core.ModelError("No.", status=500), 502, "api_error", "model_error"),
        (core.ModelError("No."), 502, "api_error", "model_error"),
        (core.PromptTooLong(), 400, "invalid_request_error", "context_length_exceeded"),
        (core.ProcessDied("No."), 502, "api_error", "process_died"),
        (core.BudgetSpent(1.0), 402, "invalid_request_error", "budget_exceeded"),
        (core.TurnTimeout("No."), 504, "api_error", "turn_timeout"),
        (core.TurnFailed("No."), 502, "api_error", "turn_failed"),
        (core.ControlRefused("get_usage", "No."), 502, "api_error", "turn_failed"),
        (core.CannotSnapshot("No."), 409, "invalid_request_error", "rewind_refused"),
        (core.RewindRefused("No."), 409, "invalid_request_error", "rewind_refused"),
        (core.RewindRefused("No.", conflicts=["a"]), 409, "invalid_request_error", "conflict"),
        (core.ChangedSince(["a"]), 409, "invalid_request_error", "conflict"),
        (core.ConversationInUse("No."), 409, "invalid_request_error", "conversation_busy"),
        (core.ConversationClosed(), 503, "service_unavailable_error", "shutting_down"),
    ],
)
def test_each_error_of_the_core_has_its_status(
    error: core.ClaudeError, status: int, kind: str, code: str | None
) -> None:
    answer = from_core(error)
    assert (answer.status, answer.type, answer.code) == (status, kind, code)
    assert answer.body("req_1") == {
        "error": {
            "message": str(error),
            "type": kind,
            "param": answer.param,
            "code": code,
            "request_id": "req_1",
        }
    }


def test_every_error_of_the_core_is_in_that_list() -> None:
    def leaves(kind: type[core.ClaudeError]) -> set[str]:
        below = kind.__subclasses__()
        if kind.__module__ != core.__name__ and kind is not core.ClaudeError:
            return set()  # a room's own: it is one of these to whoever translates it
        return set().union(*map(leaves, below)) if below else {kind.__name__}

    tested = {
        mark.args[1][i][0].__class__.__name__
        for mark in test_each_error_of_the_core_has_its_status.pytestmark  # type: ignore[attr-defined]
        for i in range(len(mark.args[1]))
    }
    assert leaves(core.ClaudeError) <= tested


def test_a_wait_is_said_in_whole_seconds_and_what_a_person_must_mend_is_not_retried() -> None:
    assert from_core(core.RateLimited("No.", retry_after=6.2)).headers == {"Retry-After": "7"}
    assert from_core(core.NotLoggedIn()).headers == {"x-should-retry": "false"}
