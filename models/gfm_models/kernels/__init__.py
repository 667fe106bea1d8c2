"""The trilinear edge operation and its back ends."""
