"""Conformance suites for adapters of every kind, tool executors, encoders and stores. Subclass one, and pytest runs it.

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

Rule of this package: a law is a test method whose name states it; what a law needs comes from one hook.
Nothing here knows how the adapter works: it is used only through `generate`, `stream_generate` and `step`, as
users do.
"""

from .adapter import AdapterSuite
from .audio import SpeechSuite, TranscriptionSuite
from .calls import CallScene
from .encoder import EncoderSuite
from .executor import ExecutorSuite
from .images import ImageSuite
from .scenes import Scene, Stage
from .services import ClassificationSuite, EmbeddingSuite, ModerationSuite
from .store import StoreSuite
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
    "StoreSuite",
    "StreamSuite",
    "TranscriptionSuite",
]
