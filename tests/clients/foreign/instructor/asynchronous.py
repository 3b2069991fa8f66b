"""The same for programs with an event loop, over Responses."""

import asyncio

import instructor  # type: ignore[import-not-found] # it is in an environment of its own
from pydantic import BaseModel


class User(BaseModel):
    """Somebody who is mentioned."""

    name: str
    age: int


async def main() -> None:
    """Ask once."""
    client = instructor.from_provider(
        "openai/sonnet", mode=instructor.Mode.RESPONSES_TOOLS, async_client=True
    )
    user = await client.create(
        response_model=User, messages=[{"role": "user", "content": "Ann is 30 years old."}]
    )
    print(user.model_dump_json())


asyncio.run(main())
