"""The page of a search: results as cards, each with the anchor pairs behind its score."""
