"""Files of an anchor set: format 1, read and checked."""
