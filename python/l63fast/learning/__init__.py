"""Neural encoders that read a window of observations and correct a background."""
