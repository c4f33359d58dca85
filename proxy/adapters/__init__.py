"""The outbound shell: one outside system per file."""
