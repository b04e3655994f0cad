"""Service discovery: which services there are, and where."""
