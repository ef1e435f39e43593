"""Sounds to vectors: decode, cut into windows, and pool what a frozen audio encoder gives of each."""
