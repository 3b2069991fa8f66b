"""What one owner says is for the model's answer to that owner alone, whatever process serves it.

Clients of several owners do at random all that clients do, over few processes, so that these are
reused, give way and die. Whatever a client sends or hears holds its owner's own word. The model's
log then says whether another one's word ever came along, and whether each request held exactly
what its client had sent.
"""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_ccapi.claude import (
    Conversation,
    Message,
    Options,
    Pool,
    TextDelta,
    Tool,
    ToolCall,
    ToolResult,
    TurnEnd,
    TurnStarted,
    client_tool,
    query,
)
from jupyter_ccapi.claude.errors import CLIStartFailed, ProcessDied
from jupyter_ccapi.demo import LoggedRequest, OfflineModel, Reply
from jupyter_ccapi.demo.reading import blocks
from tests.claude.conftest import ALL, MakePool
from tests.claude.support import conversation_sent, eventually, spares
from tests.conftest import WARM

WORDS = {"A": "aardvark", "B": "barracuda", "C": "cormorant", "D": "dromedary"}
SHARED_PROMPT = "Be brief."
Talk = Sequence[Message]


def tool_of(word: str, *, shared: bool) -> Tool:
    """A tool that answers with its owner's word; a shared one looks the same for every owner."""

    async def answer(given: dict[str, Any]) -> str:
        return f"{word} was looked up"

    about = "Looks something up." if shared else f"Looks up what is about {word}."
    schema = {"type": "object", "properties": {}}
    return Tool("shared" if shared else f"{word}_tool", about, schema, answer)


@dataclass(frozen=True)
class Sent:
    """A request as its client sent it."""

    owner: str
    options: Options
    history: Talk
    prompt: str


@dataclass
class World:
    """What the clients of one run have in common; `sent` is by the number in each prompt."""

    pool: Pool
    home: Path
    sent: dict[int, Sent] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)


class Client:
    """A stateless client: it remembers its conversations itself, and sends all of them each time.
    It does the same things in each run with the same seed.
    """

    def __init__(self, world: World, owner: str, seed: str) -> None:
        self.owner = owner
        self.word = WORDS[owner]
        self._world = world
        self._random = random.Random(seed)
        self._talks: list[tuple[Options, list[Message]]] = []

    async def run(self, steps: int) -> None:
        """Do so many things one after another, some of them not to their end."""
        for _ in range(steps):
            ending = self._random.choices(("whole", "interrupt", "kill"), (8, 2, 1))[0]
            await self.ask(*self._next(), ending)

    def _next(self) -> tuple[Options, list[Message]]:
        """Begin a conversation, go on with one, or take one up that was had otherwise."""
        what = self._random.choices(("new", "on", "edited", "shortened"), (3, 5, 1, 1))[0]
        if what == "new" or not self._talks:
            return self._options(), []
        options, talk = self._random.choice(self._talks)
        if what == "edited":
            place = self._random.randrange(len(talk))
            if isinstance(talk[place].content, str):
                changed = Message(talk[place].role, f"{self.word} said otherwise")
                talk = [*talk[:place], changed, *talk[place + 1 :]]
        elif what == "shortened":
            talk = talk[:2]
            if not isinstance(talk[-1].content, str):
                talk = []
        if self._random.random() < 0.2:
            options = replace(options, model=self._random.choice(("haiku", "sonnet")))
        return options, talk

    def _options(self) -> Options:
        one, two = f"I am {self.word}.", f"You are {self.word}."
        chosen = Options(
            system_prompt=self._random.choice((None, SHARED_PROMPT, SHARED_PROMPT, one, two)),
            cwd=self._world.home / "project",
        )
        if self._random.random() < 0.3:
            chosen = replace(chosen, cwd=self._world.home / self.word)
            chosen = replace(chosen, sdk={"env": {"OWNERS_WORD": self.word}})
        if self._random.random() < 0.4:
            chosen = replace(
                chosen, tools=(tool_of(self.word, shared=self._random.random() < 0.6),)
            )
        return chosen

    async def ask(self, options: Options, history: Sequence[Message], ending: str) -> None:
        """Send a request, and wait for its end or bring that about."""
        number = len(self._world.sent)
        directives = f"[[say {self.word} answers {number}]]"
        if ending == "whole" and options.tools:
            directives = f"[[tool mcp__client__{options.tools[0].name} {{}}]] [[then]] {directives}"
        elif ending != "whole":
            directives += " [[words 200]] [[delay 0.02]]"
        prompt = f"{self.word} asks #{number}# {directives}"
        self._world.sent[number] = Sent(self.owner, options, tuple(history), prompt)
        try:
            said = await self._turn(options, history, prompt, ending)
            look_at_processes(self._world.pool)
        except (ProcessDied, CLIStartFailed):
            # Somebody has killed its process.
            self._world.outcomes["died"] += 1
            return
        self._world.outcomes[ending] += 1
        if said is not None:
            assert said[-1] == Message("assistant", f"{self.word} answers {number}")
            self._talks = [
                *self._talks[-2:],
                (options, [*history, Message("user", prompt), *said]),
            ]

    async def _turn(
        self, options: Options, history: Talk, prompt: str, ending: str
    ) -> list[Message] | None:
        """The answer as messages; None where it was not waited for."""
        pool = self._world.pool
        said: list[Message] = []
        async with query(pool, prompt, options, owner=self.owner, history=history) as turn:
            if ending == "interrupt" and self._random.random() < 0.5:
                for _ in range(self._random.randrange(40)):
                    await asyncio.sleep(0)
                return None
            async for event in turn:
                match event:
                    case TurnStarted() if ending == "interrupt" and self._random.random() < 0.5:
                        return None
                    case TurnStarted() if ending == "kill":
                        with suppress(psutil.NoSuchProcess):
                            psutil.Process(self._random.choice(pool.pids())).kill()
                    case TextDelta() if ending != "whole":
                        return None
                    case ToolCall(id, name, given):
                        use = {"type": "tool_use", "id": id, "input": given}
                        use["name"] = client_tool(name)  # as the model knows it
                        said.append(Message("assistant", [use]))
                    case ToolResult(id, content):
                        result = {"type": "tool_result", "tool_use_id": id, "content": content}
                        said.append(Message("user", [result]))
                    case TurnEnd(text=text):
                        said.append(Message("assistant", text))
        return said


def look_at_processes(pool: Pool) -> None:
    """See that no process of one owner has another one's environment, folder or arguments."""
    for slot in pool.slots:
        if slot.owner is None or slot.process is None:
            continue
        with suppress(psutil.Error):
            process = psutil.Process(slot.process.pid)
            told = [*process.environ().values(), process.cwd(), *process.cmdline()]
            assert words_in(" ".join(told)) <= {WORDS[slot.owner]}


def words_in(text: str) -> set[str]:
    """The owners' words that occur in a text."""
    return {word for word in WORDS.values() if word in text}


def plain(content: Any) -> list[tuple[str, ...]]:
    """Content as the model reads it, in one form for all forms of it."""
    parts: list[tuple[str, ...]] = []
    for block in blocks(content):
        match block:
            case {"type": "text", "text": text}:
                parts.append(("text", text))
            case {"type": "tool_use"}:
                parts.append(("call", block["id"], block["name"], json.dumps(block["input"])))
            case {"type": "tool_result"}:
                parts.append(("result", block["tool_use_id"], *map(str, plain(block["content"]))))
            case _:
                parts.append((str(block),))
    return parts


def check(request: LoggedRequest, sent: Sent) -> None:
    """See that the model was sent what the client has sent, and nothing else."""
    entries = [entry for entry in request.messages if entry["role"] != "system"]
    given = [(entry["role"], plain(entry["content"])) for entry in entries]
    talk = [*sent.history, Message("user", sent.prompt)]
    wanted = [(message.role, plain(message.content)) for message in talk]
    assert given[: len(wanted)] == wanted
    rest = given[len(wanted) :]
    if rest:
        ((_, called), (_, answered)) = rest
        assert [part[0] for part in called] == ["call"]
        assert [part[0] for part in answered] == ["result"]
        assert f"{WORDS[sent.owner]} was looked up" in str(answered)
    system = request.system_text
    assert (sent.options.system_prompt or "") in system
    prompts = {SHARED_PROMPT, *(f"{how} {WORDS[sent.owner]}." for how in ("I am", "You are"))}
    assert not any(other in system for other in prompts - {sent.options.system_prompt})
    assert request.tools == [f"mcp__client__{tool.name}" for tool in sent.options.tools]
    if sent.options.model is not None:
        assert sent.options.model in request.body["model"]


def check_all(model: OfflineModel, world: World) -> None:
    """See to that for every request that the model was sent, and that none came twice."""
    asked: Counter[int] = Counter()
    for request in model.requests:
        words = words_in(json.dumps([request.body, dict(request.headers)]))
        assert len(words) <= 1
        if request.side:
            continue
        number = int(re.findall(r"#(\d+)#", request.user_text)[-1])
        sent = world.sent[number]
        assert words == {WORDS[sent.owner]}
        check(request, sent)
        asked[number] += 1
    for number, sent in world.sent.items():
        assert asked[number] <= 1 + ("[[then]]" in sent.prompt)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nobody_reads_what_another_one_says(
    make_pool: MakePool, model: OfflineModel, home: Path, seed: int
) -> None:
    for word in WORDS.values():
        (home / word).mkdir()
    few = make_pool(spares=2, max_concurrent_sessions=4, queue_deadline=100)
    world = World(few, home)
    clients = [Client(world, owner, f"{seed} {owner}") for owner in list(WORDS)[: 3 + seed % 2]]
    # All at once, so that processes change hands and give way.
    await asyncio.gather(*(client.run(6) for client in clients))
    await few.close()
    # Then all the same one by one, so that there is time and room for spares.
    roomy = world.pool = make_pool(spares=2, max_concurrent_sessions=10)
    options = Options(system_prompt=SHARED_PROMPT, cwd=home / "project")
    for client in clients:
        await client.ask(options, [], "whole")
        if WARM:
            # One for anybody, which the next owner gets.
            await eventually(lambda: None in spares(roomy))
    check_all(model, world)
    assert world.outcomes["whole"] > len(world.sent) / 2
    if WARM:
        assert few.served["live"]
        assert few.served["recycled"]
        assert roomy.served["spare"] == len(clients) - 1


async def test_what_was_made_ready_for_one_serves_no_other(
    make_pool: MakePool, model: OfflineModel, chat: Options
) -> None:
    pool = make_pool(warm=True, spares=2)
    options = replace(chat, system_prompt=SHARED_PROMPT)
    await query(pool, "aardvark", options, owner="A").finish()
    await eventually(lambda: pool.count("spare") == 2)
    mine = {slot for slot in pool.slots if slot.owner == "A"}
    assert {slot.state for slot in mine} == {"idle", "spare"}
    # Down to the last letter the same, but for the owner.
    model.script(Reply("barracuda"))
    turn = query(pool, "aardvark", options, owner="B")
    await turn.finish()
    (served,) = (slot for slot in pool.slots if slot.owner == "B" and slot.state == "idle")
    assert (turn.warmth, served in mine) == ("spare", False)
    # And the other way round, where there is but one process and no place for another.
    turn = query(pool, "aardvark", options, owner="A")
    await turn.finish()
    assert turn.warmth == "bound"
    assert all(slot.owner == "A" for slot in mine)


async def test_an_owners_environment_and_folder_are_in_no_other_ones_process(
    make_pool: MakePool, model: OfflineModel, chat: Options, home: Path
) -> None:
    pool = make_pool(warm=True, spares=2)
    processes = {}
    for owner, word in list(WORDS.items())[:2]:
        (home / word).mkdir()
        options = replace(chat, cwd=home / word, sdk={"env": {"OWNERS_WORD": word}})
        turn = query(pool, word, options, owner=owner)
        await turn.finish()
        # Not even a spare that is bound to nothing yet, since it was started for the other's.
        assert turn.warmth == "cold"
        (slot,) = (slot for slot in pool.slots if slot.owner == owner and slot.state == "idle")
        assert slot.process is not None
        processes[word] = psutil.Process(slot.process.pid)
        await eventually(lambda: pool.count("spare") == 2 and not pool.count("starting"))
        look_at_processes(pool)
    for word, process in processes.items():
        assert process.environ()["OWNERS_WORD"] == word
        assert process.cwd() == str(home / word)


async def test_what_ran_in_agent_mode_holds_no_other_conversation(
    make_pool: MakePool, model: OfflineModel, agent: Options
) -> None:
    # Its shell has a folder and variables of its own, which nothing takes back.
    pool = make_pool(warm=True)
    await query(pool, "first", agent).finish()
    await eventually(lambda: pool.capabilities == ALL)
    turn = query(pool, "second", agent)
    await turn.finish()
    assert turn.warmth == "cold"
    assert [text for _, text in conversation_sent(model.main_requests[-1])][-1] == "second"


@pytest.mark.parametrize("persist", [False, True])
async def test_the_model_is_not_told_that_it_was_switched_to(
    make_pool: MakePool, model: OfflineModel, chat: Options, persist: bool
) -> None:
    pool = make_pool(warm=True)
    model.script(Reply("first answer"), Reply("second answer"))
    conversation = Conversation(pool, chat, persist=persist)
    await conversation.send("first").finish()
    await eventually(lambda: pool.capabilities == ALL)
    haiku = replace(chat, model="haiku")
    talk = [Message("user", "first"), Message("assistant", "first answer")]
    if persist:
        conversation.options = haiku
        await conversation.send("second").finish()
    else:
        await query(pool, "second", haiku, history=talk).finish()
    request = model.main_requests[-1]
    assert "haiku" in request.body["model"]
    check(request, Sent("A", haiku, talk, "second"))
