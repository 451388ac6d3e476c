"""Remove pushed content: images that expire by retention rules, and parts without references."""
