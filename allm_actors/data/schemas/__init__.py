"""Types and functions of a program as a model meets them: schemas, and values from JSON, also from a part of it."""
