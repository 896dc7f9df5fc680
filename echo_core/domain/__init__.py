"""Entities and their legal state changes: pure Python, no input or output."""
