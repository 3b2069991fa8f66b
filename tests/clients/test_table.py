"""The table client x feature: what README shows is what the tests declare."""

import json
import re
from pathlib import Path

import pytest

from tests.clients import environments, table
from tests.clients.table import Cell

README = Path(__file__).parents[2] / "README.md"


def test_readme_shows_what_the_tests_declare() -> None:
    shown = f"\n\n{table.markdown(table.declared())}\n\n" in README.read_text("utf-8")
    assert shown, "`python -m tests.clients.table` prints the table as README is to have it"


def test_every_row_and_column_has_a_test() -> None:
    cells = table.declared()
    assert {feature for feature, _ in cells} == set(table.FEATURES)
    assert {client for _, client in cells} == set(table.CLIENTS)


def test_a_cell_says_the_worst_that_came_of_its_tests() -> None:
    cells: dict[tuple[str, str], Cell] = {}
    for outcome in ("yes", "failed", "skipped"):
        table.note(cells, ("chat", "anthropic"), outcome)
    table.note(cells, ("audio", "openai-python"), "no")
    assert table.markdown(cells).splitlines() == [
        "| | openai-python | anthropic |",
        "| --- | --- | --- |",
        "| chat | - | failed |",
        "| audio | no | - |",
    ]


def test_a_row_or_column_that_is_not_listed_is_a_mistake() -> None:
    for key in (("chatt", "anthropic"), ("chat", "antropic")):
        with pytest.raises(AssertionError, match=r"is no (row|column) of the table"):
            table.note({}, key, "yes")


def test_all_that_is_installed_is_pinned_and_names_no_host() -> None:
    lock = json.loads((environments.NODE / "package-lock.json").read_text())
    installed = [package for name, package in lock["packages"].items() if name]
    assert all(package["integrity"] and "resolved" not in package for package in installed)
    wanted = (environments.INSTRUCTOR / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line) for line in wanted)


def test_a_client_that_cannot_be_installed_is_skipped_unless_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CCAPI_REQUIRE_CLIENTS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"Node\.js is not there"):
        environments.node()
    monkeypatch.setenv("CCAPI_REQUIRE_CLIENTS", "1")
    with pytest.raises(pytest.fail.Exception, match=r"Node\.js is not there"):
        environments.node()


def test_an_environment_is_made_again_when_what_is_pinned_changes(tmp_path: Path) -> None:
    made = tmp_path / "made"
    command = ["sh", "-c", f"mkdir -p {made} && echo once >> {made}/log"]
    for pinned in ("a", "a", "b"):
        environments.make(made, [pinned], [command])
    assert (made / "log").read_text() == "once\n" * 2
