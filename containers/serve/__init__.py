"""What answers texts: a bundle, the app around it, and the MLflow model around it."""

import os

# onnxruntime sends usage data to its maker unless this is set before it is loaded (its Privacy.md).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
