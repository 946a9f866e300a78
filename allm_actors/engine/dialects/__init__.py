"""One file per wire dialect: encode a request, decode bytes to events."""
