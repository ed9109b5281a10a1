"""One file a page, each a description of what is on it."""
