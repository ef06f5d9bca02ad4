"""The network that a user holds."""
