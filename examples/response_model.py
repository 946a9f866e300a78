"""An answer that is a value of your type: parsed, asked for again when it does not fit, seen while it is written."""

from dataclasses import dataclass, field

import allm_actors as allm
from provider import MODEL, engine, says


@dataclass
class Recipe:
    """What we want to know."""

    name: str
    minutes: int
    steps: list[str] = field(default_factory=list)


question = [allm.user("Scrambled eggs for one, in two steps. How many whole minutes does it take?")]

# The first answer lacks a field. The model is told so, and asked again; at most max_retries times.
cook = engine(
    says('{"name": "Scrambled eggs"}'),
    says('{"name": "Scrambled eggs", "minutes": 5, "steps": ["Beat", "Stir"]}'),
)
response = allm.generate(cook, question, response_model=Recipe, max_retries=2)
recipe = response.parsed
print(recipe)
assert isinstance(recipe, Recipe)
assert recipe == Recipe("Scrambled eggs", 5, ["Beat", "Stir"]) or MODEL

# While it is written, what there is of it so far is a value, too.
cook = engine(says('{"name": "Scrambled', ' eggs", "minutes": 5,', ' "steps": ["Beat", ', '"Stir"]}'))
with allm.stream_generate(cook, question, response_model=Recipe) as stream:
    for partial in stream.partials():
        print("so far:", partial)
    assert isinstance(stream.result().parsed, Recipe)

# An answer that never fits is an error like any other: data in the response, raised by unwrap.
if MODEL is None:
    cook = engine(says("I would rather not."))
    response = allm.generate(cook, question, response_model=Recipe, max_retries=0)
    assert (response.parsed, response.finish_reason) == (None, "error")
    print(response.metadata["error"])
    assert response.metadata["error"].reason == "invalid_response"
