"""Have the model fill a class: instructor calls a named tool, or asks for JSON."""

import json

import instructor  # type: ignore[import-not-found] # it is in an environment of its own
from pydantic import BaseModel


class User(BaseModel):
    """Somebody who is mentioned."""

    name: str
    age: int


found = []
for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    client = instructor.from_provider("openai/sonnet", mode=mode)
    user = client.create(
        response_model=User, messages=[{"role": "user", "content": "Ann is 30 years old."}]
    )
    found.append(user.model_dump())
print(json.dumps(found))
