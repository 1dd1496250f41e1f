"""Writing that the training loop does not wait for: one thread, job after job."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

MOST = 4
"""Jobs that may be pending: an average, the best model and a checkpoint of the same
step, and the removal of what they replace."""

KNOWN = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Read-only file system",
    "Permission denied",
    "No such file or directory",
    "Input/output error",
)
"""What the operating system says, wherever in a library's message it stands."""


class Background:
    """Jobs in order; after one that failed, none of the later ones is run."""

    def __init__(self):
        self._pool = ThreadPoolExecutor(1, "background")
        self._pending: deque[Future] = deque()
        self._failed = False

    def submit(self, job: Callable[[], None]) -> Future:
        """Queue `job()`. Waits only where `MOST` jobs are pending: a slow disk."""
        while len(self._pending) >= MOST:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._run, job))
        return self._pending[-1]

    def check(self) -> None:
        """Raise what a job has failed with; waits for nothing."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def finish(self) -> None:
        """Wait for all jobs; raises what one has failed with."""
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        self._pool.shutdown()

    def _run(self, job) -> None:
        if self._failed:
            return
        try:
            job()
        except BaseException:
            self._failed = True
            raise


def reason(error: BaseException) -> str:
    """Why something could not be written, short enough for a line."""
    text = " ".join(str(error).split())
    known = (phrase for phrase in KNOWN if phrase.lower() in text.lower())
    return next(known, text[:200] or type(error).__name__)
