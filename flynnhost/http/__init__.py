"""The HTTP API: Klein resources, wire types, event streams, error table."""
