"""Pure decisions: no await, no clock, no environment, no network, no files."""
