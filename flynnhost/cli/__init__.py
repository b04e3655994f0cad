"""The flynn-host command."""
