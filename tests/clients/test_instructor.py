"""instructor, in an environment of its own; what it runs is in foreign/instructor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyter_ccapi.demo import OfflineModel
from tests.clients.environments import INSTRUCTOR, output
from tests.clients.sent import schema, structured
from tests.servers import Server

pytestmark = pytest.mark.client("instructor")

ANN = {"name": "Ann", "age": 30}
BOB = {"name": "Bob", "age": 40}


@pytest.fixture
def run(instructor_python: Path, server: Server) -> Callable[[str], Any]:
    """Run a script and read what it prints."""
    return lambda name: json.loads(output(instructor_python, INSTRUCTOR / name, server))


Run = Callable[[str], Any]


@pytest.mark.feature("structured output")
@pytest.mark.feature("forced tool choice")
def test_a_class_is_filled(run: Run, model: OfflineModel) -> None:
    model.script(structured(**ANN), structured(**ANN))
    assert run("extract.py") == [ANN, ANN]
    assert [request.user_text for request in model.main_requests] == ["Ann is 30 years old."] * 2
    assert set(schema(model)["properties"]) == {"name", "age"}


@pytest.mark.feature("retries")
def test_an_answer_is_corrected(run: Run, model: OfflineModel) -> None:
    model.script(structured(name="Ann", age=3), structured(**ANN))
    assert run("correct.py") == ANN
    assert len(model.main_requests) == 2
    assert "must be a grown-up's age" in str(model.main_requests[-1].messages)


@pytest.mark.feature("structured output, streamed")
@pytest.mark.feature("tool calls, streamed")
def test_an_object_grows_while_it_is_read(run: Run, model: OfflineModel) -> None:
    model.script(structured(**ANN), structured(tasks=[ANN, BOB]))
    read = run("stream.py")
    assert read["several"] == [ANN, BOB]
    first, *_, last = read["grown"]
    assert (first, last) == ({"name": None, "age": None}, ANN)
    assert all(request.stream for request in model.main_requests)


@pytest.mark.feature("async")
@pytest.mark.feature("Responses: tool calls")
def test_over_responses(run: Run, model: OfflineModel) -> None:
    model.script(structured(**ANN))
    assert run("asynchronous.py") == ANN
    assert set(schema(model)["properties"]) == {"name", "age"}
