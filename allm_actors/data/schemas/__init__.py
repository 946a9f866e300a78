"""JSON Schemas from types and functions, and values of those types from JSON, complete or partial."""
