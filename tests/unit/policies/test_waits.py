"""Waits between tries."""

import random

from gateway.policies.waits import jittered_waits


def test_a_wait_is_anything_up_to_a_bound_that_doubles() -> None:
    """F49."""
    wait_s = jittered_waits(0.5, 3.0, random.Random(7))
    for failed, longest_s in ((1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (9, 3.0)):
        waits = [wait_s(failed) for _ in range(300)]
        assert 0 <= min(waits) < 0.2 * longest_s
        assert 0.8 * longest_s < max(waits) <= longest_s
