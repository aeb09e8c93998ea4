from __future__ import annotations

import gc

from vi_dist.uncollected import uncollected


def test_collections_stop_for_a_while_and_leave_out_what_was_made() -> None:
    try:
        with uncollected():
            assert not gc.isenabled()
            made = [object() for _ in range(3)]
        assert gc.isenabled()
        assert not any(one is made for one in gc.get_objects())
    finally:
        gc.unfreeze()
    assert any(one is made for one in gc.get_objects())
