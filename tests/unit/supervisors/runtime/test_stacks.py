"""Where another thread is."""

import threading

from supervisors.runtime.stacks import calls_of, stack_of


def test_the_stack_of_a_thread_says_where_it_is():
    here, on = threading.Event(), threading.Event()

    def waits_for_the_test():
        here.set()
        on.wait(5)

    thread = threading.Thread(target=waits_for_the_test)
    thread.start()
    here.wait(5)
    assert "waits_for_the_test" in stack_of(thread.ident)
    assert "waits_for_the_test" in [frame.f_code.co_name for frame, _line in calls_of(thread.ident)]
    on.set()
    thread.join()


def test_a_thread_that_does_not_run_is_nowhere():
    thread = threading.Thread(target=int)
    assert (calls_of(thread.ident), stack_of(thread.ident)) == ([], "")


def test_a_thread_that_goes_in_and_out_can_be_looked_at():
    over = threading.Event()

    def dives(depth):
        return 0 if depth == 0 else 1 + dives(depth - 1)

    def work():
        while not over.is_set():
            dives(5)

    thread = threading.Thread(target=work)
    thread.start()
    names = {frame.f_code.co_name for _ in range(5_000) for frame, _line in calls_of(thread.ident)}
    over.set()
    thread.join()
    assert "work" in names
