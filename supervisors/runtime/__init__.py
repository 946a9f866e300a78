"""Who runs, when, and what waits: mailboxes, futures, dispatchers, timers, and the system that holds them together.

The rule of this package: it moves signals and runs turns, and knows nothing of what a process does with them.
"""
