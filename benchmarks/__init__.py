"""Measurements beside what flynn-host stands on and what it stands beside."""
