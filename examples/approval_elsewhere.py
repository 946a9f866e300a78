"""A human approval that arrives in another process: the call waits in the store, for however long.

    approval_elsewhere.py ask FILE        a customer talks; the model wants to refund, and this process ends
    approval_elsewhere.py approve FILE    somebody at another desk looks at what waits, decides, and the talk goes on
    approval_elsewhere.py                 both, one after the other

One SQLite file, a manual tool, and two processes that know nothing of each other.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import allm_actors as allm
from provider import calls, engine, said, says


@allm.tool(manual=True)
def refund(order: str, amount: int) -> str:
    """Give money back. A person decides."""


def ask(store: str) -> None:
    """The customer's side."""
    desk = engine(calls(("refund", {"order": "A-17", "amount": 120})), tools=[refund])
    with allm.Host(store=store) as host:
        session = host.session("support-42", desk)
        wish = "Order A-17 came broken. Refund me the 120 I paid, please."
        session.reply(wish, tool_choice="required").result()
        print(f"{session.id} is {session.status}")
        assert session.status == "awaiting_tools"


def approve(store: str) -> None:
    """The desk's side: everything that waits in the store, and a decision for each."""
    desk = engine(says("Your 120 are on their way."), tools=[refund])
    with allm.Host(store=store) as host:
        waiting = [stored.id for stored in host.stored_sessions() if stored.status == "awaiting_tools"]
        assert len(waiting) == 1
        for name in waiting:
            session = host.session(name, desk)
            for call in session.pending_tool_calls:
                print(f"{session.id} wants {call.name}({call.arguments}): approved")
                session.submit_tool_result(call.id, {"refunded": call.arguments["amount"], "by": "grace"})
            result = session.continue_().result()
            print(f"{session.id} is told: {result.text()}")
            said(result.text(), "Your 120 are on their way.")
            assert session.status == "completed"


def main() -> None:
    """Two processes, one file."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "desk.db")
        for side in ("ask", "approve"):
            subprocess.run([sys.executable, __file__, side, store], check=True, timeout=50)
        with allm.Host(store=store) as host:
            messages = host.session("support-42", engine()).messages
            assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant"]
            assert '"by":"grace"' in str(messages[2].content)


if __name__ == "__main__":
    {"ask": ask, "approve": approve}[sys.argv[1]](sys.argv[2]) if sys.argv[1:] else main()
