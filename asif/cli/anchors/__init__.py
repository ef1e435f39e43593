"""The commands of `asif anchors`."""
