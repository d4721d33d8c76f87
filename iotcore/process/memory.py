"""The garbage collector of a process that makes thousands of objects a second and leaves hardly one to be found.

By default it looks at 700 new objects at a time, and every so often at all that there are: a hundred thousand devices, none of
which ever goes. What is there after the start is left alone, and the rest is looked at more rarely; a twentieth of the time.
"""

from __future__ import annotations

import gc

YOUNG = 50_000  # objects; a batch of a thousand messages makes about five thousand that live until its commit
OLDER = 20
OLDEST = 50


def settle() -> None:
    """Call once everything that stays has been made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLDEST)
