"""What runs on the host that a team shares."""
