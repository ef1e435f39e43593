"""Edits: the next version of an anchor set from the current one."""
