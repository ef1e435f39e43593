"""The ranking of encoder pairs by how alike they see the same pairs."""
