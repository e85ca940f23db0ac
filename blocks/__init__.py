"""What the flows touch outside the process, each a Prefect block under a well-known name."""
