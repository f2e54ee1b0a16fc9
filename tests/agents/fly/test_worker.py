"""The worker: one job at a time, in order, one for each owner."""

import threading

from agents.fly.worker import Worker


def test_jobs_run_in_turn_and_each_owner_sees_how_many_come_first():
    worker, go, done, order = Worker(), threading.Event(), threading.Event(), []
    started = threading.Event()

    def first():
        started.set()
        assert go.wait(10)
        order.append("a")

    worker.submit("a", first)
    assert started.wait(10)
    worker.submit("b", lambda: order.append("b1"))
    worker.submit("c", lambda: (order.append("c"), done.set()))
    worker.submit("b", lambda: order.append("b2"))  # in the place of b1
    assert [worker.before(owner) for owner in "abcd"] == [None, 1, 2, None]
    go.set()
    assert done.wait(10)
    worker.close()
    assert order == ["a", "b2", "c"]


def test_cancel_takes_a_waiting_job_out_and_waits_for_the_one_that_runs():
    worker, started, go, order = Worker(), threading.Event(), threading.Event(), []
    worker.submit("a", lambda: (started.set(), go.wait(10), order.append("a")))
    assert started.wait(10)
    worker.submit("a", lambda: order.append("never"))
    threading.Timer(0.1, go.set).start()
    worker.cancel("a")
    assert order == ["a"]
    worker.close()
    assert order == ["a"]


def test_a_job_that_fails_is_told_and_the_others_go_on():
    failed, done = [], threading.Event()
    worker = Worker(on_failure=lambda owner, error: failed.append((owner, str(error))))

    def fail():
        raise AssertionError("broken")

    worker.submit("a", fail)
    worker.submit("b", done.set)
    assert done.wait(10)
    worker.close()
    assert failed == [("a", "broken")]
