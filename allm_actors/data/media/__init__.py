"""Images, documents and sound as values: where the bytes are, not necessarily the bytes themselves."""
