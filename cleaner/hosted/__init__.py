"""This package removes pushed content: images by retention rules, and their unreferenced parts."""
