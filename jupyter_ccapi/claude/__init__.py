"""Claude Code as Python objects: the core. It knows no HTTP, no Tornado, no IPython and no
OpenAI.

A ``Pool`` bounds the processes, a ``Conversation`` outlives its process, ``send()`` gives a
``Turn``, a turn yields events.

```python
pool = Pool()
conversation = Conversation(pool)
async for event in conversation.send("Hello"):
    if isinstance(event, TextDelta):
        print(event.text, end="")
await pool.close()
```
"""

from .asking import Answer
from .asking_once import query
from .capabilities import Capabilities
from .cli import CLI, Login, find_cli
from .conversation import Conversation
from .counting import count_tokens
from .errors import ClaudeError
from .events import (
    AnswerDiscarded,
    Event,
    PermissionRequest,
    PermissionResolved,
    RateLimit,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallStarted,
    ToolInputDelta,
    ToolResult,
    TurnEnd,
    TurnStarted,
    Usage,
)
from .history import Message
from .limits import Limits
from .models import ALIASES, resolve_model
from .options import Options
from .pool import Pool
from .slots import ENDINGS, WARMTHS
from .tools import Tool, client_tool, plain_name
from .turn import Turn
from .watching import Watcher

__all__ = [
    "ALIASES",
    "CLI",
    "ENDINGS",
    "WARMTHS",
    "Answer",
    "AnswerDiscarded",
    "Capabilities",
    "ClaudeError",
    "Conversation",
    "Event",
    "Limits",
    "Login",
    "Message",
    "Options",
    "PermissionRequest",
    "PermissionResolved",
    "Pool",
    "RateLimit",
    "TextDelta",
    "ThinkingDelta",
    "Tool",
    "ToolCall",
    "ToolCallStarted",
    "ToolInputDelta",
    "ToolResult",
    "Turn",
    "TurnEnd",
    "TurnStarted",
    "Usage",
    "Watcher",
    "client_tool",
    "count_tokens",
    "find_cli",
    "plain_name",
    "query",
    "resolve_model",
]
