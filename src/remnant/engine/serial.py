"""One cohort after another in this process: for debugging, and for machines without a second core."""

import time
import traceback
from collections.abc import Iterator, Sequence

from remnant.engine import Cohort, Outcome, Work


class Serial:
    """The simplest engine; a debugger works in it."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = 1

    def map(self, work: Work, cohorts: Sequence[Cohort]) -> Iterator[Outcome]:
        for cohort in cohorts:
            start = time.monotonic()
            try:
                work(cohort)
            except Exception:
                yield Outcome(cohort, time.monotonic() - start, traceback.format_exc())
            else:
                yield Outcome(cohort, time.monotonic() - start)
