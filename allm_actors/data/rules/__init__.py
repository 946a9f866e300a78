"""The rules that values must satisfy before they are sent, and the messages for those that do not."""
