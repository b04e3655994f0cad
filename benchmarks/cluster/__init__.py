"""How quickly a leader commits jobs to hosts that are only simulated."""
