"""An answer that is data: a type says what it must look like, and reads it."""

from dataclasses import dataclass

import msgspec

import allm_actors as allm
from provider import MODEL, engine, says


@dataclass
class Cat:
    """What we want to know."""

    name: str
    age: int


shelter = engine(says('{"name": "Ash", ', '"age": 3}'))

question = [allm.user("Ash came to us three years ago, as a newborn kitten. Who is it?")]
response = allm.generate(shelter, question, response_format=allm.json_schema("cat", Cat))
cat = msgspec.json.decode(allm.unwrap(response), type=Cat)
print(cat)

assert cat == Cat("Ash", 3) or MODEL
