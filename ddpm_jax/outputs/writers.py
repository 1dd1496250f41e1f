"""Threads that encode and write while the device goes on, with a bounded queue."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Writers:
    """At most `most` jobs wait or run; `submit` waits for a place, so that memory is
    the same for any count. The first failure is raised by the next call."""

    def __init__(self, threads: int, most: int):
        self.finished = self._told = 0
        self._pool = ThreadPoolExecutor(threads)
        self._places = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

    def submit(self, job: Callable, *arguments) -> Future:
        self._places.acquire()
        try:
            self.check()
            future = self._pool.submit(job, *arguments)
        except BaseException:
            self._places.release()
            raise
        future.add_done_callback(self._done)
        return future

    def _done(self, future: Future) -> None:
        with self._lock:
            if not future.cancelled():
                failure = future.exception()
                self._failure = self._failure or failure
                self.finished += failure is None
        self._places.release()

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def news(self) -> int:
        """How many jobs succeeded since it was asked last."""
        before, self._told = self._told, self.finished
        return self._told - before

    def drain(self) -> None:
        """Until all that was submitted is done."""
        self._pool.shutdown()
        self.check()

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, kind, *_) -> None:
        """What runs ends; what waits is dropped where an exception passes."""
        self._pool.shutdown(cancel_futures=kind is not None)
