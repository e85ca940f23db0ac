"""What `tests.bench` and `tests.speed` measure with: made-up tweets, figures, and a module for each part."""
