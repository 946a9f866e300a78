"""OTP's supervision semantics, pure: no threads, no clock, no Pykka; time and events are passed in.

steps.py      what operations yield, and what they are answered
operations.py      one operation at a time
static.py     a list of children: strategies, restart types, auto-shutdown, the child API, hot change
dynamic.py    children that come and go
stopping.py   how children are stopped
entry.py      one child, and what is shown of it
window.py     the restart intensity
"""
