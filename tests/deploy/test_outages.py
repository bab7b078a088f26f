"""The collector is killed, for as long as it may be, under a program of ours: nothing is lost."""

from concurrent.futures import Future

import pytest

from llmspell_exporters.batching import BOUND
from tests.deploy.outages import AWAY, Outcome

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("number", range(len(AWAY)), ids=[f"{away} s" for away in AWAY])
def test_nothing_is_lost_while_collectors_and_jaeger_are_killed(
    outages: "Future[list[Outcome]]", number: int
) -> None:
    """Late, away for 2, 20 and 60 s, Jaeger away for 10: every span made is stored, once."""
    found = outages.result(240)[number]
    made, books = sorted(found.books["ids"]), found.books
    assert len(made) > 100
    assert (books["made"], books["acknowledged"]) == (len(made), len(made))
    assert not any(books[name] for name in ("lost", "rejected", "spooled", "queued"))
    assert sorted(found.stored) == made
    assert books["slowest"] < BOUND
