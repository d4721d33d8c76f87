"""Fire rules (pure), the engine that runs them, and the lane from arrival to journal."""
