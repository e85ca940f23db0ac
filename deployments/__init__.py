"""What a Prefect server should know of this repository: pools, deployments, automations, permissions."""
