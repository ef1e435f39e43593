"""Receipts: proofs of removal, and the search for residues."""
