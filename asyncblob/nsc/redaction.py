"""Taking what looks like a credential out of a program's output, before it gets into an error or a log line.

``nsc`` is not known to print its tokens, but it does print the URLs that it failed to reach, and those are presigned.
Rather too much is replaced than too little. A word that was wrapped after a hyphen, as ``nsc`` does at 100 columns, is
still one word here. Each pattern is linear in the length of the text, which a stranger may have written.
"""

from __future__ import annotations

import re

__all__ = ["REDACTED", "redact"]

REDACTED = "[redacted]"

# A hyphen at the end of a line goes on in the next.
_HYPHEN = r"-(?:\r?\n)?"
# One character of a token, and of a URL.
_TOKEN = rf"(?:[A-Za-z0-9._~+/=]|{_HYPHEN})"
_URL = rf"(?:[^\s\"'<>`-]|{_HYPHEN})"

# A whole URL, so that its parts are looked at once, whether there is a query or not.
_WHOLE_URL = re.compile(rf"\b([a-z][a-z0-9+.]{{0,15}}://)({_URL}+)", re.IGNORECASE)

_NAMES = (  # of what is secret
    r"(?:token|secret|passw(?:or)?d|passphrase|credentials?|signature|authorization|cookie|api[_-]?key"
    r"|access[_-]?key(?:[_-]?id)?|private[_-]?key)"
)

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # An HTTP authorisation, with or without the header's name.
    (re.compile(rf"\b(bearer|basic)(\s+){_TOKEN}{{6,}}", re.IGNORECASE), rf"\1\2{REDACTED}"),
    # "name": "value", name="value" and name=value, where the name says that it is secret.
    (
        re.compile(
            rf"({_NAMES}[\"']?\s?[=:]\s?)(?:\"(?:[^\"\n-]|{_HYPHEN})+\"?|'(?:[^'\n-]|{_HYPHEN})+'?)", re.IGNORECASE
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(rf"({_NAMES}\s?=\s?)(?!\[){_TOKEN}+", re.IGNORECASE), rf"\1{REDACTED}"),
    # name: value could be prose ("failed to load token: permission denied"), so it takes a digit or a long word.
    (
        re.compile(rf"({_NAMES}[\"']?\s?:\s?)(?=\S{{0,100}}\d|\S{{20}}){_TOKEN}+", re.IGNORECASE),
        rf"\1{REDACTED}",
    ),
    # JSON web tokens: the base64 of '{"'.
    (re.compile(rf"eyJ{_TOKEN}{{6,}}"), REDACTED),
    # Namespace's own tokens (nscw_…, nsct_…, oidc_…) and GitHub's.
    (re.compile(rf"\b(?:nsc[a-z]?|oidc|gh[a-z]|github_pat)_{_TOKEN}{{12,}}"), REDACTED),
    # AWS access keys.
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), REDACTED),
)


def redact(text: str) -> str:
    """Replace what looks like a credential by `REDACTED`."""
    text = _WHOLE_URL.sub(_redact_url, text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def _redact_url(found: re.Match[str]) -> str:
    """Take user information, query and fragment out of a URL."""
    rest, mark, query = found[2].partition("?")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{found[1]}{REDACTED if user else ''}{at}{host}{slash}{path}{mark}{REDACTED if query else ''}"
