"""Laws for what others implement: adapters of every kind, tool executors, encoders. Subclass one, and pytest runs it.

    from allm_actors.testing.conformance import AdapterSuite, Scene, Stage

    class TestMyAdapter(AdapterSuite):
        @contextmanager
        def stage(self, scene: Scene) -> Iterator[Stage]:
            with my_server(scene) as server:
                yield Stage(
                    engine=allm.Engine(adapter=MyAdapter(server.url), model="m"),
                    requests=lambda: len(server.requests),
                    sent=lambda: [request.body for request in server.requests],
                )

Rule of this package: a law is a method with a name that says it; what a law needs is a hook with one question. Nothing
here knows how the adapter works: it is looked at through `generate`, `stream_generate` and `step`, as users look at it.
"""

from .adapter import AdapterSuite
from .audio import SpeechSuite, TranscriptionSuite
from .calls import CallScene
from .encoder import EncoderSuite
from .executor import ExecutorSuite
from .images import ImageSuite
from .scenes import Scene, Stage
from .services import ClassificationSuite, EmbeddingSuite, ModerationSuite
from .stream import StreamSuite

__all__ = [
    "AdapterSuite",
    "CallScene",
    "ClassificationSuite",
    "EmbeddingSuite",
    "EncoderSuite",
    "ExecutorSuite",
    "ImageSuite",
    "ModerationSuite",
    "Scene",
    "SpeechSuite",
    "Stage",
    "StreamSuite",
    "TranscriptionSuite",
]
