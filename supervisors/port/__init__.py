"""Programs of the operating system as processes: output as messages, a common end, a kill that really kills.

framing.py   bytes into frames and back
program.py   one running program, its pipes and its process group; knows nothing of processes
process.py   Port: the process that owns a program
"""

from supervisors.port.framing import FrameTooLong, Framing
from supervisors.port.process import EOF, CommandFailed, Port, PortData, PortRefused
from supervisors.port.program import ExitStatus

__all__ = [
    "EOF",
    "CommandFailed",
    "ExitStatus",
    "FrameTooLong",
    "Framing",
    "Port",
    "PortData",
    "PortRefused",
]
