"""A permission request as a person reads it: what the tool would do, and how it was answered.

Pure functions. Of a command every character is shown, as it is what a person says yes to.
"""

import shlex
from pathlib import Path

from jupyter_ccapi.claude import PermissionRequest, PermissionResolved

from . import card_input, diffs
from .looks import BAD, GOOD, LINE, MUTED, Bundle, block, note, safe, span
from .trimming import shortened, visible

_WIDTH = 100
_ANY_EDIT = "Edit(**)"
_EDITING = ("Edit", "Write", "NotebookEdit", "MultiEdit")
_TITLE = f"{LINE}; font-weight: 600"


def bundle(request: PermissionRequest) -> Bundle:
    """What is asked, for a display without buttons."""
    return {"text/html": html(request) + note(scope(request)), "text/plain": text(request)}


def html(request: PermissionRequest) -> str:
    """What is asked, and what would be done, in full."""
    title = f'<div style="{_TITLE}" role="alert">{safe(visible(request.title))}</div>'
    about = _about(request)
    return title + (note(about) if about else "") + _proposal_html(request)


def text(request: PermissionRequest, *, colours: bool = False) -> str:
    """The same as text; with ``colours`` a diff has those of a terminal."""
    diff = _diff(request)
    proposal = diffs.text(diff, colours=colours) if diff else _proposal(request)
    parts = [visible(request.title), _about(request), _indented(proposal), scope(request)]
    return "\n".join(part for part in parts if part)


def scope(request: PermissionRequest) -> str:
    """What "for this conversation" would allow."""
    rule = visible(request.scope)
    if not rule:
        return ""
    if rule == _ANY_EDIT:
        rule += ", all changes to files in the folder"
    elif "(" not in rule:
        rule += ", whatever it is called with"
    return f"For this conversation: {rule}"


def question(request: PermissionRequest) -> str:
    """What is asked where an answer is typed."""
    return (
        f"Allow {_short(request)}? [y]es once / [a]lways in this conversation / [n]o, or a reason: "
    )


def nobody(request: PermissionRequest) -> str:
    """Why it is denied where nobody can be asked, and what allows it."""
    options = f"--tools {shlex.quote(request.scope or request.tool)}"
    if request.tool in _EDITING:
        options = f"-p acceptEdits or {options}"
    return (
        "Nobody can be asked here (the notebook is run without a person): allow it beforehand "
        f"with {options}."
    )


def settled(request: PermissionRequest, event: PermissionResolved | None) -> Bundle:
    """The line that stays: how it was answered; None where it was not."""
    if event is None:
        words, style, why = "Not answered", MUTED, ""
    elif event.behavior == "deny":
        words, style, why = "Denied", BAD, shortened(visible(event.message), 400)
    elif event.scope == "once":
        words, style, why = "Allowed once", GOOD, ""
    else:
        words, style = "Allowed for this conversation", GOOD
        why = visible(request.scope) if request.scope != request.tool else ""
    tool, headline = visible(request.tool), _headline(request)
    about = f" <code>{safe(headline)}</code>" if headline else ""
    end = f" · {why}" if why else ""
    line = f"{span(style, words)}: {safe(tool)}{about}{safe(end)}"
    return {
        "text/html": f'<div style="{LINE}; {MUTED}">{line}</div>',
        "text/plain": f"{words}: {_short(request)}{end}",
    }


def _short(request: PermissionRequest) -> str:
    """The call on one line: Bash `rm x`."""
    headline = _headline(request)
    return f"{visible(request.tool)} `{headline}`" if headline else visible(request.tool)


def _headline(request: PermissionRequest) -> str:
    return shortened(card_input.headline(request.input, Path.cwd()), _WIDTH)


def _about(request: PermissionRequest) -> str:
    """What the model says that it is for, unless that is said already."""
    given = request.input.get("description")
    about = request.description or (given if isinstance(given, str) else "")
    about = shortened(visible(about), 300)
    known = f"{request.title}\n{_proposal(request)}" if request.description else request.title
    return "" if about in known else about


def _diff(request: PermissionRequest) -> str:
    return request.diff or card_input.edit(request.tool, request.input, Path.cwd())


def _proposal_html(request: PermissionRequest) -> str:
    if diff := _diff(request):
        return diffs.html(diff)
    proposal = safe(_proposal(request))
    if not proposal:
        return ""
    if _command(request):
        return block(span(MUTED, "$ ") + proposal)
    return block(proposal)


def _proposal(request: PermissionRequest) -> str:
    """A command and whatever else its input says of it; of any other tool the whole input."""
    command = _command(request)
    if not command:
        return card_input.fields(request.input)
    others = {
        key: value for key, value in request.input.items() if key not in ("command", "description")
    }
    more = "\n".join(f"{visible(key)}: {visible(str(value))}" for key, value in others.items())
    return f"{visible(command)}\n\n{more}" if more else visible(command)


def _command(request: PermissionRequest) -> str:
    command = request.input.get("command")
    return command if request.tool == "Bash" and isinstance(command, str) else ""


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n")) if text else ""
