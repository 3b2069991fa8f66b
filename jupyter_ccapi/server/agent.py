"""Agent mode over HTTP: what a request may ask of Claude Code on this machine.

A request gets no more than the server's options allow; beyond that it is refused, and nothing is
quietly made smaller than it was asked for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_ccapi.config import ServerOptions
from jupyter_ccapi.openai.errors import APIError
from jupyter_ccapi.openai.request import AgentWish
from jupyter_ccapi.store import Key

# The permission modes in which agents change files, or may.
_CHANGING = {"acceptEdits", "auto", "bypassPermissions"}


class AgentRules:
    """The folders, modes and tools that the options allow; ``root`` is the server's own folder."""

    def __init__(self, options: ServerOptions, root: Path) -> None:
        self._options = options
        self._root = root

    @property
    def folders(self) -> list[Path]:
        """The folders within which agents work and images lie, the server's own first."""
        further = (Path(folder).expanduser() for folder in self._options.additional_folders)
        return [folder.resolve() for folder in (self._root, *further)]

    def mode(self, wish: AgentWish) -> str:
        """``chat`` or ``agent``. Raises ``APIError`` 403 where agents are switched off, and 400
        for what has no meaning in a chat.
        """
        mode = wish.mode or self._options.default_mode
        if mode == "agent" and not self._options.agent_mode:
            raise _forbidden("ccapi.mode", "Agent mode is switched off here", "agent_mode")
        if mode == "chat":
            for name in ("cwd", "permission_mode", "allowed_tools", "max_budget_usd"):
                if getattr(wish, name) is not None:
                    raise APIError(
                        400,
                        f"ccapi.{name} is for agents: send it with ccapi.mode 'agent'.",
                        param=f"ccapi.{name}",
                    )
        return mode

    def options(self, wish: AgentWish) -> tuple[Path, dict[str, Any]]:
        """The folder of an agent, and its options of the SDK. Raises ``APIError`` 403."""
        options = self._options
        mode = self.permission_mode(wish.permission_mode)
        tools = wish.allowed_tools if wish.allowed_tools is not None else ()
        for tool in tools:
            if tool not in options.agent_allowed_tools:
                raise _forbidden(
                    "ccapi.allowed_tools",
                    f"The tool {tool!r} may not be used without asking here",
                    "agent_allowed_tools",
                )
        chosen: dict[str, Any] = {"permission_mode": mode}
        if tools:
            chosen["allowed_tools"] = list(tools)
        if (budget := self._budget(wish)) is not None:
            chosen["max_budget_usd"] = budget
        return self._cwd(wish.cwd), chosen

    def permission_mode(self, asked: str | None) -> str:
        """The mode of an agent that asks for this one. Raises ``APIError`` 403."""
        mode = asked or "default"
        if mode not in self._options.agent_permission_modes:
            raise _forbidden(
                "ccapi.permission_mode",
                f"The permission mode {mode!r} is not allowed here",
                "agent_permission_modes",
            )
        return mode

    def may_change_files(self, chosen: Mapping[str, Any]) -> bool:
        """Whether an agent with these options of the SDK may: it asks nobody, and reads no
        settings files.
        """
        mode = chosen.get("permission_mode")
        return mode in _CHANGING or bool(chosen.get("allowed_tools"))

    def check_rewind(self, folder: Path, key: Key | None) -> None:
        """Whether files of agents may be put back in this folder. Raises ``APIError`` 403: where
        there are no agents, or none there; and to a key, where it can have no agent that changes
        files. Whoever has no key is the server's owner.
        """
        instead = '; "files": false rewinds the conversation alone'
        if not self._options.agent_mode:
            raise _forbidden("files", f"Agent mode is switched off here{instead}", "agent_mode")
        if not any(folder.is_relative_to(one) for one in self.folders):
            said = f"The folder {str(folder)!r} is not within this server's folders{instead}"
            raise _forbidden("files", said, "additional_folders")
        modes = set(self._options.agent_permission_modes)
        if key is not None and not (modes & _CHANGING or self._options.agent_allowed_tools):
            said = f"No agent may change files here, and so no key may rewind them{instead}"
            raise _forbidden("files", said, "agent_permission_modes")

    def _budget(self, wish: AgentWish) -> float | None:
        most = self._options.agent_max_budget_usd or None
        if most is not None and (wish.max_budget_usd or 0) > most:
            raise _forbidden(
                "ccapi.max_budget_usd",
                f"A request may spend {most:g} USD at the most here",
                "agent_max_budget_usd",
            )
        return wish.max_budget_usd or most

    def _cwd(self, asked: str | None) -> Path:
        folders = self.folders
        if asked is None:
            return folders[0]
        try:
            folder = (folders[0] / Path(asked).expanduser()).resolve()
            within = any(folder.is_relative_to(one) for one in folders)
            exists = within and folder.is_dir()
        except (OSError, RuntimeError, ValueError):
            within = exists = False
        if not within:
            raise _forbidden(
                "ccapi.cwd",
                f"The folder {asked!r} is not within this server's folders",
                "additional_folders",
            )
        if not exists:
            raise APIError(400, f"There is no folder {asked!r}.", param="ccapi.cwd")
        return folder


def _forbidden(param: str, what: str, option: str) -> APIError:
    return APIError(
        403, f"{what}; the server's option {option} decides that.", param=param, code="not_allowed"
    )
