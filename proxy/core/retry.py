"""When a request may be sent again, and after how long (design section 6). Pure: chance is given in."""

from collections.abc import Callable, Iterator

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 2.0


def delays(retries: int, random: Callable[[], float]) -> Iterator[float]:
    """Seconds to wait before each further attempt: doubled each time, the upper half left to `random` (0 to below 1) so that
    callers that failed together do not come back together."""
    for attempt in range(retries):
        longest: float = min(LONGEST_SECONDS, FIRST_SECONDS * 2**attempt)
        yield longest * (0.5 + 0.5 * random())


def may_retry(*, sent: bool, idempotent: bool, delay: float, remaining: float) -> bool:
    """Whether another attempt is allowed: any tool while no byte was sent, afterwards only an idempotent one; and only if the
    deadline (`remaining` seconds away) is not over before the attempt begins."""
    return (idempotent or not sent) and delay < remaining
