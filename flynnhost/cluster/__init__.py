"""The leader: the cluster's state, and who leads."""
