"""An agent in a plain threaded daemon: a thread for each client, SIGTERM, and conversations that are kept.

    daemon.py serve FILE    listens, says at which port, and serves until SIGTERM
    daemon.py               starts one, talks to it, terminates it while it answers, and starts another one

A client sends lines, `NAME what is said`, and gets a line for each.
"""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import allm_actors as allm
from allm_actors.testing import script
from provider import MODEL, engine, said, says


def serve(store: str) -> None:
    """Until SIGTERM."""
    endless = [script.text("Once upon "), script.delay(60), script.text("a time."), script.finish("stop")]
    agent = engine(says("Noted."), endless)
    terminated = threading.Event()
    clients: set[socket.socket] = set()
    signal.signal(signal.SIGTERM, lambda *_: terminated.set())

    class Client(StreamRequestHandler):
        """One client, on a thread of its own."""

        def handle(self) -> None:
            clients.add(self.connection)
            for line in self.rfile:
                name, _, said = line.decode().strip().partition(" ")
                session = host.session(name, agent)
                turn = session.reply(said)
                print(f"{name} said: {said}", flush=True)
                for event in turn:
                    match event:
                        case allm.TextDelta(delta=delta):
                            print(f"{name} gets: {delta}", flush=True)
                        case allm.ChatCompleted(result=result):
                            answer = {"halted": result.halted_reason, "text": session.messages[-1].content}
                            self.wfile.write(json.dumps(answer).encode() + b"\n")

        def finish(self) -> None:
            clients.discard(self.connection)
            super().finish()

    with allm.Host(store=store) as host, ThreadingTCPServer(("127.0.0.1", 0), Client) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"port {server.server_address[1]}", flush=True)
        terminated.wait()
        server.shutdown()  # no new clients,
        for client in list(clients):
            client.shutdown(socket.SHUT_RD)  # and nothing more from the old ones
        host.stop()  # turns that run end as interrupted; leaving the block waits until their clients are told so


class Daemon:
    """The other end: the process, and a connection to it."""

    def __init__(self, store: Path) -> None:
        command = [sys.executable, __file__, "serve", str(store)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self.socket = socket.create_connection(("127.0.0.1", int(self.output.readline().split()[1])))
        self.lines = self.socket.makefile("rw", encoding="utf-8")

    def say(self, line: str) -> None:
        """Send a line."""
        print(line, file=self.lines, flush=True)

    def hear(self) -> dict[str, str]:
        """The answer to it."""
        answer: dict[str, str] = json.loads(self.lines.readline())
        print("  ", answer)
        return answer

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=30)

    def close(self) -> None:
        """Let go of what we hold of it."""
        self.lines.close()
        self.socket.close()
        self.output.close()


def main() -> None:
    """Two daemons, one after the other, and one conversation."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "daemon.db"
        first = Daemon(store)
        first.say("ada My cat is called Ash.")
        said(first.hear()["text"], "Noted.")
        first.say("ada Tell me a long story.")
        midway = "said: Tell me" if MODEL else "gets: Once upon"
        assert any(midway in line for line in first.output)
        code = first.terminate()
        answer = first.hear()
        first.close()
        print("   ended with", code)
        assert code == 0
        assert answer["halted"] == "interrupted" or MODEL

        second = Daemon(store)
        second.say("ada What is my cat called?")
        said(second.hear()["text"], "Noted.")
        assert second.terminate() == 0
        second.close()

        with allm.Host(store=store) as host:
            messages = host.session("ada", engine()).messages
            print("  ", [message.content for message in messages])
            asked = [message.content for message in messages if message.role == "user"]
            assert asked == ["My cat is called Ash.", "Tell me a long story.", "What is my cat called?"]


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1:2] == ["serve"] else main()
