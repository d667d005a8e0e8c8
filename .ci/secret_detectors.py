"""What the secret scan knows beside detect-secrets' own detectors: the secrets of this project's clouds."""

from __future__ import annotations

import re

from detect_secrets.plugins.base import RegexBasedDetector


class SharedAccessSignatureDetector(RegexBasedDetector):
    """The signature of a SAS token: in a URL, a token of its own, or a log.

    Azure's is an HMAC-SHA256 in base64, percent-encoded. Half of one is found too; the short words that
    tests sign with are not.
    """

    secret_type = "Azure shared access signature"  # pragma: allowlist secret
    denylist = (re.compile(r"\bsig=([A-Za-z0-9+/_-]{20}|(?:[A-Za-z0-9+/_-]|%2[BF]){20,44}(?:=|%3D)?)", re.I),)


class StorageAccountKeyDetector(RegexBasedDetector):
    """The 64 bytes that own an Azure storage account, whatever the variable that holds them."""

    secret_type = "Azure storage account key"  # pragma: allowlist secret
    denylist = (re.compile(r"(?<![A-Za-z0-9+/])([A-Za-z0-9+/]{86}==)"),)


class SubscriptionKeyDetector(RegexBasedDetector):
    """The Planetary Computer's subscription key: 32 hexadecimal digits."""

    secret_type = "Planetary Computer subscription key"  # pragma: allowlist secret
    denylist = (re.compile(r"subscription[-_ ]?key\W{1,8}([0-9a-f]{32})(?![0-9a-f])", re.I),)


class UnquotedAwsKeyDetector(RegexBasedDetector):
    """A secret access key as shells and ``~/.aws/credentials`` write it; detect-secrets wants quotes."""

    secret_type = "AWS secret access key without quotes"  # pragma: allowlist secret
    denylist = (re.compile(r"aws_secret_access_key\W{1,8}([A-Za-z0-9+/]{40})(?![A-Za-z0-9+/])", re.I),)
