"""One question, one answer.

`engine(…)` is `allm.Engine(adapter="openai:gpt-4.1-mini")` if ALLM_PROVIDER says so, else one that plays what follows.
"""

import allm_actors as allm
from provider import engine, said, says

names = engine(says("Graphite, Ash and Fog."))

response = allm.generate(names, [allm.user("Three names for a grey cat? Only the names.")])
print(response.text())

said(response.text(), "Graphite, Ash and Fog.")
assert response.finish_reason == "stop"
assert allm.unwrap(response) == response.text()
