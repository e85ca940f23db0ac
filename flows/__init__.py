"""The flows: parameters in, tasks in order, results and artifacts out."""
