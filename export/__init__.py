"""A network as a library without Python: `worker` runs in a child process, `entries` and `header` are what C sees."""
