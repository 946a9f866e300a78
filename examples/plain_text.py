"""One question, one answer.

Runs on the scripted provider, so that it needs no key. For a real one: `Engine(adapter="openai:gpt-4.1-mini")`.
"""

import allm_actors as allm
from allm_actors.testing import script

engine = allm.Engine(
    adapter="fake",
    adapter_opts={"script": [script.text("Graphite, Ash and Fog."), script.finish("stop")]},
)

response = allm.generate(engine, [allm.user("Three names for a grey cat?")])
print(response.text())

assert response.text() == "Graphite, Ash and Fog."
assert response.finish_reason == "stop"
assert allm.unwrap(response) == response.text()
