"""What every test shares: Hypothesis profiles. `HYPOTHESIS_PROFILE=thorough` looks longer."""

import os

from hypothesis import HealthCheck, settings

# No deadline: a shared machine pauses, and a pause is not a finding. `pytest-timeout` holds the line.
settings.register_profile(
    "quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
