"""State that outlives a reload."""

from gateway.assembly.lasting import Lasting


def test_what_two_generations_name_alike_is_one_object() -> None:
    """F79."""
    lasting = Lasting()
    old, new = lasting.lease(), lasting.lease()
    breaker = old.get(("breaker", "a"), object)
    assert new.get(("breaker", "a"), object) is breaker
    old.release()
    assert len(lasting) == 1
    assert lasting.lease().get(("breaker", "a"), object) is breaker


def test_what_nobody_uses_any_more_is_forgotten() -> None:
    lasting = Lasting()
    lease = lasting.lease()
    first = lease.get(("breaker", "a"), object)
    lease.get(("breaker", "b"), object)
    assert len(lasting) == 2
    lease.release()
    assert len(lasting) == 0
    assert lasting.lease().get(("breaker", "a"), object) is not first


def test_other_keys_are_other_objects() -> None:
    """F41."""
    lease = Lasting().lease()
    assert lease.get(("breaker", "a", "eu"), object) is not lease.get(("breaker", "a", "us"), object)
