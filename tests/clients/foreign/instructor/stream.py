"""Read an object while it grows, and a list one by one."""

import json
from collections.abc import Iterable

import instructor  # type: ignore[import-not-found] # it is in an environment of its own
from pydantic import BaseModel


class User(BaseModel):
    """Somebody who is mentioned."""

    name: str
    age: int


client = instructor.from_provider("openai/sonnet")
asked = [{"role": "user", "content": "Ann is 30 years old, Bob is 40."}]
partial = client.create_partial(response_model=User, messages=asked)
grown = [user.model_dump() for user in partial]
several = client.create(response_model=Iterable[User], stream=True, messages=asked)
print(json.dumps({"grown": grown, "several": [user.model_dump() for user in several]}))
