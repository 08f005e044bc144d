"""Write queue: when a job wakes the writer thread."""

import threading

from pareta_agent.meter.write_queue import WriteQueue

LONG_S = 30.0


def taken_by_a_thread(inbox, idle_s, linger_s):
    """Takes jobs in a thread; returns the thread and the list of taken jobs."""
    found = []
    thread = threading.Thread(target=lambda: found.append(inbox.take(8, idle_s, linger_s)), daemon=True)
    thread.start()
    return thread, found


def test_jobs_come_in_order_and_no_more_than_asked_for():
    """Jobs beyond the limit are taken next, without a wait."""
    inbox = WriteQueue()
    for number in range(5):
        inbox.put(number, urgent=True)
    assert (inbox.take(3, LONG_S, LONG_S), inbox.take(3, LONG_S, LONG_S)) == ([0, 1, 2], [3, 4])


def test_an_empty_inbox_gives_nothing_after_its_time():
    """An empty queue returns after the idle time, so that the thread can do other work."""
    assert WriteQueue().take(8, 0.0, LONG_S) == []


def test_an_urgent_job_wakes_the_taker():
    """An urgent job ends both the idle wait and the linger wait."""
    idle, lingering = WriteQueue(), WriteQueue()
    lingering.put("patient", urgent=False)
    threads = [taken_by_a_thread(idle, LONG_S, LONG_S), taken_by_a_thread(lingering, LONG_S, LONG_S)]
    for inbox in (idle, lingering):
        inbox.put("urgent", urgent=True)
    for thread, _ in threads:
        thread.join(60)
    assert [found for _, found in threads] == [[["urgent"]], [["patient", "urgent"]]]


def test_a_patient_job_is_taken_when_it_has_waited():
    """A job that may wait wakes an idle taker, which then waits at most the linger time."""
    inbox = WriteQueue()
    thread, found = taken_by_a_thread(inbox, LONG_S, 0.001)
    inbox.put("patient", urgent=False)
    thread.join(60)
    assert found == [["patient"]]


def test_no_job_is_lost_between_many_threads():
    """Every job is taken once, in each putter's order, for any interleaving."""
    inbox, taken = WriteQueue(), []

    def put(base):
        for number in range(500):
            inbox.put(base + number, urgent=number % 3 == 0)

    threads = [threading.Thread(target=put, args=(base,)) for base in (0, 1000, 2000)]
    for thread in threads:
        thread.start()
    while len(taken) < 1500:
        taken += inbox.take(16, 5.0, 0.0005)
    assert [[n for n in taken if n // 1000 == base] for base in range(3)] == [
        list(range(base * 1000, base * 1000 + 500)) for base in range(3)
    ]
