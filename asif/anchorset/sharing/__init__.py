"""A version leaves the store and comes into another: as a tar, or by way of the Hugging Face Hub."""
