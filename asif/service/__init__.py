"""The service: anchor sets and galleries over HTTP, swapped and edited while they answer, and a page."""
