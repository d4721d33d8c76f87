"""Each scenario that a release must pass, as a timeline: what is done when, what is seen by when, and that there is no second."""
