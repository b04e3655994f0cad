"""Verified fakes, and the contracts they share with the real things."""
