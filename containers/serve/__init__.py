"""What answers texts: a bundle, the app around it, and the MLflow model around it."""
