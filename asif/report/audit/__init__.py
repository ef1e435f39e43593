"""The page and the texts of an audit."""
