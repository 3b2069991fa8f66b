"""An answer that a validator refuses is asked for again, with what was wrong with it."""

from typing import Annotated

import instructor  # type: ignore[import-not-found] # it is in an environment of its own
from pydantic import AfterValidator, BaseModel


def grown_up(age: int) -> int:
    """What the schema cannot say."""
    if age < 18:
        raise ValueError("must be a grown-up's age")
    return age


class User(BaseModel):
    """Somebody who is mentioned."""

    name: str
    age: Annotated[int, AfterValidator(grown_up)]


client = instructor.from_provider("openai/sonnet")
user = client.create(
    response_model=User,
    max_retries=2,
    messages=[{"role": "user", "content": "Ann is 30 years old."}],
)
print(user.model_dump_json())
