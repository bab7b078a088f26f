"""What holds for every test."""

import os

from hypothesis import HealthCheck, settings

# The same examples every time where a red light stops everybody; fresh ones on a desk.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
if os.environ.get("CI"):
    settings.load_profile("ci")
