"""Share a version of a set: as a tar archive, or through the Hugging Face Hub."""
