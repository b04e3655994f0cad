"""What doctor looks at, each thing by itself."""
