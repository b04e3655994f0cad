"""How quickly the output of jobs is read, by several programs."""
