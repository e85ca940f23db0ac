"""The verbs of the flows and the pure functions behind them, one noun a module."""
