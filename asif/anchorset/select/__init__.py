"""Rows of anchor sets: found, compared, and put together as views."""
