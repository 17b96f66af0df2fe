"""Video in and out, and the session that tracks many live streams with one model."""
