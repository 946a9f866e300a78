"""Removes from texts what looks like a key.

Rule of this file: when in doubt it removes. Losing a word that only looks like a key costs less than leaking
a key.
"""

from __future__ import annotations

import re

__all__ = ["is_labelled", "redact"]

# How a name ends: of what is a secret whatever it looks like, and of what is a key if it has a digit in it, so that
# "api_key: required" stays readable.
_SURELY = (
    r"(?:(?i:passw(?:or)?d|passphrase|client[-_]?secret|secret[-_]?access[-_]?key|(?:access|refresh)[-_]?token"
    r"|(?<![a-z])pwd)|Pwd|_PASS)"
)
_LIKELY = (
    r"(?i:(?:api|access|secret|private|signing|encryption)[-_ ]?key|(?:account|subscription)[-_]?key"
    r"|token|secret)"
)
_LEAST = 4  # characters of a value
_QUOTE = r"\\{0,15}[\"']"  # with backslashes in JSON that is a text in JSON
_IS = rf"(?:{_QUOTE})?\s?[:=]\s?"
_END = r"(?<!\\)(?P=escape)(?P=quote)"
_ANYTHING = (  # all that is in the quotes, or in the rest of the line if they do not end; without quotes, a word
    rf"(?!(?:{_QUOTE})?-----BEGIN)"
    rf"(?:(?P<escape>\\{{0,15}})(?P<quote>[\"'])(?![^\n]{{0,{_LEAST - 1}}}{_END})[^\n]{{{_LEAST},}}?(?={_END}|\n|\Z)"
    rf"|(?i:(?:bearer|basic)\s+)?[^\s\"'&,;}}]{{{_LEAST - 1},}}[^\s\"'&,;}}\\])"
)
_KEY = r"(?=[^\s\"'&,;]{0,400}[0-9])[^\s\"'&,;]{5,}[^\s\"'&,;\\]"

_KEYS = re.compile(
    r"\b(?:sk|rk|pk|org|proj|gsk|csk|xai|tgp|tvly|pa|hf)[-_][A-Za-z0-9_\-*.]{6,}"
    r"|\bAIza[A-Za-z0-9_\-]{6,}|\bAQ\.[A-Za-z0-9_\-]{20,}|\bya29\.[A-Za-z0-9_\-.]{6,}|(?i:\bbearer\s+)[A-Za-z0-9_\-.=+/*]{6,}"
    r"|\bpplx-[A-Za-z0-9]{16,}|\bfw_[A-Za-z0-9]{12,}|(?i:\bauthorization\W{1,8}(?:b\W)?basic\s+)[A-Za-z0-9+/=_-]{6,}"
    # AWS: access key ids, Bedrock API keys, and the token that AWS quotes when it rejects a signature.
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\b(?:ABSK|bedrock-api-key-)[A-Za-z0-9_\-.=+/]{6,}"
    r"|(?i:\bx-amz-security-token[:=]\s*)[^\s'\"&]+"
    # Other services, whose keys a tool may return: GitHub, GitLab, Slack, Stripe webhooks; JSON Web Tokens.
    r"|\b(?:gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|xapp-|whsec_)[A-Za-z0-9_\-]{10,}"
    r"|(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    # A URL's user and password, and values by their name, as a field or a parameter.
    r"|(?<=://)[^\s/:@]{0,200}:[^\s/@]{1,200}(?=@)"
    rf"|{_SURELY}{_IS}{_ANYTHING}"
    r"|\bapikey[-_][A-Za-z0-9_\-]{12,}"
    rf"|{_LIKELY}{_IS}(?:{_QUOTE})?{_KEY}"
)
_SURE_NAME, _LIKELY_NAME = re.compile(rf"{_SURELY}\Z"), re.compile(rf"{_LIKELY}\Z")
_LIKE_A_KEY = re.compile(_KEY)


def redact(text: str) -> str:
    """`text` without anything that looks like a key."""
    return _KEYS.sub("[REDACTED]", text)


def is_labelled(name: str, value: str) -> bool:
    """Whether a field of this name and value is a secret: the same as where both stand in a text."""
    if _SURE_NAME.search(name):
        return len(value) >= _LEAST
    return bool(_LIKELY_NAME.search(name) and _LIKE_A_KEY.match(value))
