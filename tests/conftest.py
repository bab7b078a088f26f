"""What holds for every test."""

import gc
import os

from hypothesis import HealthCheck, settings

# pytest bounds each test's time; one example's time says only how busy the machine is.
settings.register_profile(
    "desk",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# The same examples every time where a red light stops everybody; fresh ones on a desk.
settings.register_profile("ci", settings.get_profile("desk"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# No test leaves its books in the user's temporary folder; those of books name a folder of theirs.
os.environ.setdefault("LLMSPELL_OTEL_STATE_DIR", "none")


def pytest_collection_finish() -> None:
    """Spare the collector what was imported: tests that call it look for their own leftovers."""
    gc.collect()
    gc.freeze()
