"""Converse of Amazon Bedrock, for every model that it hosts."""
