"""The page, its live stream, and enrolment."""
