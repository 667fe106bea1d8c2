"""Which rank takes which structure of a step, and in how many passes: pure arithmetic."""
