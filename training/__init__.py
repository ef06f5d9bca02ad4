"""The training loop, and what it is made of: losses, update rules, schedules, metrics; the config."""
