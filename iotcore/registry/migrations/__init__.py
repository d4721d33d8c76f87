"""The steps of the registry's schema, both ways, and how they are taken. docs/registry.md says how to add one."""

from iotcore.registry.migrations import (
    m0001_start,
    m0002_places,
    m0003_enrolment,
    m0004_people,
    m0005_commissioning,
    m0006_coverage,
    m0007_serials,
    m0008_certificates,
    m0009_acts,
    m0010_rules,
)
from iotcore.registry.migrations.run import apply, back, due, lost, revert, stamps
from iotcore.registry.migrations.step import Step

# By number. 2: places; 3: enrolment; 4: people; 5: commissioning; 6: coverage and groups; 7: serials; 8: certificates; 9: acts;
# 10: rules
STEPS: tuple[Step, ...] = (
    m0001_start.STEP,
    m0002_places.STEP,
    m0003_enrolment.STEP,
    m0004_people.STEP,
    m0005_commissioning.STEP,
    m0006_coverage.STEP,
    m0007_serials.STEP,
    m0008_certificates.STEP,
    m0009_acts.STEP,
    m0010_rules.STEP,
)

__all__ = ["STEPS", "Step", "apply", "back", "due", "lost", "revert", "stamps"]
