"""Removes from texts what looks like a key.

Rule of this file: when in doubt it removes. Losing a word that only looks like a key costs less than leaking
a key.
"""

from __future__ import annotations

import re

__all__ = ["redact"]

_KEYS = re.compile(
    r"\b(?:sk|rk|pk|org|proj|gsk|csk|xai|tgp|tvly|pa|hf)[-_][A-Za-z0-9_\-*.]{6,}"
    r"|\bAIza[A-Za-z0-9_\-]{6,}|\bAQ\.[A-Za-z0-9_\-]{20,}|\bya29\.[A-Za-z0-9_\-.]{6,}|(?i:\bbearer\s+)[A-Za-z0-9_\-.=+/*]{6,}"
    r"|\bpplx-[A-Za-z0-9]{16,}|\bfw_[A-Za-z0-9]{12,}|(?i:\bauthorization\W{1,8}(?:b\W)?basic\s+)[A-Za-z0-9+/=_-]{6,}"
    # AWS: access key ids, Bedrock API keys, and the token that AWS quotes when it rejects a signature.
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\b(?:ABSK|bedrock-api-key-)[A-Za-z0-9_\-.=+/]{6,}"
    r"|(?i:\bx-amz-security-token[:=]\s*)[^\s'\"&]+"
    # Other services, whose keys a tool may return: GitHub, GitLab, Slack, Stripe webhooks; JSON Web Tokens.
    r"|\b(?:gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|xapp-|whsec_)[A-Za-z0-9_\-]{10,}"
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    # A URL's user and password, and values that are named a password.
    r"|(?<=://)[^\s/:@]{0,200}:[^\s/@]{1,200}(?=@)"
    r"|(?i:(?<![a-z])(?:password|passwd|pwd|client_secret|secret_access_key|access_token|refresh_token)[\"']?\s?[:=]\s?)"
    r"[\"']?[^\s\"'&,;}]{4,400}"
    # Values named a key, a token or a secret, as a field or a parameter; only with a digit in them, so that
    # "api_key: required" stays readable.
    r"|\bapikey[-_][A-Za-z0-9_\-]{12,}"
    r"|(?i:(?<![a-z])(?:api[-_ ]?key|token|secret)[\"']?\s?[:=]\s?)[\"']?(?=[^\s\"'&,;]{0,400}[0-9])[^\s\"'&,;]{6,}"
)


def redact(text: str) -> str:
    """`text` without anything that looks like a key."""
    return _KEYS.sub("[REDACTED]", text)
