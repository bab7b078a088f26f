"""The overhead budget: exact sums, a sliding window, and no verdict without evidence."""

import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspell_otel.errors import SettingsError
from llmspell_otel.hooks.budget import OverheadBudget
from llmspell_otel.hooks.ratios import ratio_of

MILLISECOND = 1_000_000
SECOND = 1000 * MILLISECOND


def test_a_hook_within_its_budget_passes() -> None:
    """Exactly the budget is not over it."""
    budget = OverheadBudget()
    for _ in range(1000):
        assert not budget.observe(MILLISECOND // 10, 10 * MILLISECOND)
    assert not budget.exceeded
    assert budget.share == 0.01


def test_a_nanosecond_over_the_budget_is_over_it() -> None:
    """The comparison is exact, over any number of observations."""
    budget = OverheadBudget()
    for _ in range(99):
        assert not budget.observe(MILLISECOND, 100 * MILLISECOND)
    assert budget.observe(MILLISECOND + 1, 100 * MILLISECOND)


def test_too_few_observations_are_no_evidence() -> None:
    """However far over its budget: 99 observations decide nothing, the 100th does."""
    budget = OverheadBudget()
    for _ in range(99):
        assert not budget.observe(SECOND, SECOND)
    assert budget.share == 1.0
    assert budget.observe(SECOND, SECOND)


def test_too_little_time_is_no_evidence() -> None:
    """A toy tool of a few microseconds trips nothing until it amounts to a second."""
    budget = OverheadBudget()
    verdicts = [budget.observe(5_000, 5_000) for _ in range(200_000)]
    assert verdicts.index(True) == 199_999


def test_old_slowness_leaves_the_window() -> None:
    """A hook that has mended itself is within its budget again."""
    budget = OverheadBudget()
    for _ in range(100):
        budget.observe(50 * MILLISECOND, 100 * MILLISECOND)
    assert budget.exceeded
    for _ in range(200):
        budget.observe(0, 100 * MILLISECOND)
    assert not budget.exceeded
    assert budget.share == 0.0


def test_new_slowness_is_not_hidden_by_a_long_good_past() -> None:
    """A day of good behaviour buys no more than one window."""
    budget = OverheadBudget()
    for _ in range(10_000):
        budget.observe(0, 100 * MILLISECOND)
    verdicts = [budget.observe(10 * MILLISECOND, 100 * MILLISECOND) for _ in range(100)]
    assert True in verdicts


def test_reset_forgets() -> None:
    """After a reset fresh evidence is needed."""
    budget = OverheadBudget()
    for _ in range(150):
        budget.observe(SECOND, SECOND)
    assert budget.exceeded
    budget.reset()
    assert not budget.exceeded
    assert (budget.share, budget.observations) == (0.0, 0)


def test_a_floor_spares_cheap_hooks() -> None:
    """With a floor, a hook cheaper than it on average is never over its budget."""
    spared, judged = OverheadBudget(floor=0.000_010), OverheadBudget(floor=0.000_009)
    for _ in range(20_000):
        spared.observe(9_999, 50_000)
        judged.observe(9_999, 50_000)
    assert not spared.exceeded
    assert judged.exceeded


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"share": -0.01}, "overhead.share"),
        ({"share": "much"}, "overhead.share"),
        ({"share": float("nan")}, "overhead.share"),
        ({"share": "1/0"}, "overhead.share"),
        ({"min_observations": 0}, "overhead.min_observations"),
        ({"min_operation_time": -1}, "overhead.min_operation_time"),
        ({"floor": -1}, "overhead.floor"),
    ],
)
def test_an_impossible_budget_is_refused(options: dict, setting: str) -> None:
    """A value that makes no sense is named."""
    with pytest.raises(SettingsError) as refused:
        OverheadBudget(**options)
    assert refused.value.name == setting


def test_threads_lose_no_observation() -> None:
    """Eight threads observing at once are all counted."""
    budget = OverheadBudget(min_observations=10**6)

    def work() -> None:
        for _ in range(5000):
            budget.observe(1, 100)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert budget.observations == 40_000
    assert budget.share == 0.01


@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**9)), max_size=60),
    st.integers(1, 8),
    st.integers(0, 3),
)
def test_the_window_equals_its_definition(
    observed: list[tuple[int, int]], least: int, seconds: int
) -> None:
    """The window is the last stretch with enough evidence, and what came after it."""
    budget = OverheadBudget(min_observations=least, min_operation_time=seconds)
    stretches: list[list[tuple[int, int]]] = [[]]
    for hook_ns, operation_ns in observed:
        stretches[-1].append((hook_ns, operation_ns))
        window = [each for stretch in stretches[-2:] for each in stretch]
        hooks, operations = (sum(times) for times in zip(*window, strict=True))
        enough = len(window) >= least and operations >= seconds * SECOND
        assert budget.observe(hook_ns, operation_ns) == (enough and hooks * 100 > operations)
        last = stretches[-1]
        if len(last) >= least and sum(each[1] for each in last) >= seconds * SECOND:
            stretches.append([])


# -- ratios


@pytest.mark.parametrize(
    ("given_as", "meant"),
    [
        (0.01, Fraction(1, 100)),
        (2 / 3, Fraction(2, 3)),
        (0.1 + 0.2, Fraction(3, 10)),
        (1, Fraction(1)),
        ("1%", Fraction(1, 100)),
        (" 2/3 ", Fraction(2, 3)),
        ("0.5", Fraction(1, 2)),
        (Fraction(3, 7), Fraction(3, 7)),
        (2**-40, Fraction(1, 2**40)),
    ],
)
def test_a_ratio_is_what_was_meant(given_as: Fraction | float | str, meant: Fraction) -> None:
    """Floats come out as the fraction they were written for; text may be a percentage."""
    assert ratio_of(given_as) == meant


@given(st.fractions(min_value=0, max_value=1, max_denominator=10_000))
def test_a_fraction_survives_its_float(fraction: Fraction) -> None:
    """Any everyday fraction written as a quotient of floats is read back exactly."""
    assert ratio_of(fraction.numerator / fraction.denominator) == fraction
