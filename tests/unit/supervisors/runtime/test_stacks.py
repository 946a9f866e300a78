"""Where another thread is."""

import threading

from supervisors.runtime.stacks import frame_of, stack_of


def test_the_stack_of_a_thread_says_where_it_is():
    here, on = threading.Event(), threading.Event()

    def waits_for_the_test():
        here.set()
        on.wait(5)

    thread = threading.Thread(target=waits_for_the_test)
    thread.start()
    here.wait(5)
    assert "waits_for_the_test" in stack_of(thread.ident)
    assert frame_of(thread.ident) is not None
    on.set()
    thread.join()


def test_a_thread_that_does_not_run_is_nowhere():
    thread = threading.Thread(target=int)
    assert (frame_of(thread.ident), stack_of(thread.ident)) == (None, "")
