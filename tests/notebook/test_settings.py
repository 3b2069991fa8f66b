"""What is kept of a conversation's settings over a restart, and what of them counts."""

from pathlib import Path

from jupyter_ccapi.notebook.settings import ForThisCell, Settings, to_options


def test_no_secret_of_a_server_is_kept() -> None:
    """Its name is, so that it can be said that the server is missing."""
    server = {"command": "serve", "env": {"TOKEN": "secret-1"}}
    settings = Settings(mcp={"files": server}, permission="acceptEdits", tools=("Read",))
    told = settings.told()
    assert "secret-1" not in str(told)
    again, missing = Settings.of(told)
    assert missing == ["--mcp files"]
    assert (again.permission, again.tools, again.mcp) == ("acceptEdits", ("Read",), None)


def test_where_what_forbids_is_not_kept_neither_is_what_allows() -> None:
    """A callback cannot be kept: without it nothing may be done that it might have denied."""
    settings = Settings(
        permission="bypassPermissions",
        tools=("Read", "Bash(git *)"),
        sdk={"can_use_tool": print, "disallowed_tools": ["Bash"]},
    )
    again, missing = Settings.of(settings.told())
    assert missing == ["can_use_tool", "disallowed_tools"]
    assert (again.permission, again.tools) == (None, ("Read",))


def test_a_cells_tools_stand_in_place_of_those_given_in_python(tmp_path: Path) -> None:
    """Also of a preset."""
    preset = {"type": "preset", "preset": "claude_code"}
    settings = Settings(tools=("Read",), cwd=str(tmp_path), sdk={"tools": preset})
    assert to_options(settings, ForThisCell()).sdk["tools"] == ["Read"]
