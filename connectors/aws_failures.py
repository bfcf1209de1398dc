"""What the exceptions of botocore mean, all of them, and what to do. No value of a request or an answer.

A refusal by a service (ClientError) is worded by who made the request; what any service may say of credentials is here.
"""

import re
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import botocore.exceptions as boto
import botocore.session
from botocore.parsers import ResponseParserError

from ahi_catalog.connectors.errors import UsageError

_CLOCK: Final = "this machine's clock is wrong: set it (NTP)"
_EXPIRED: Final = "the credentials have expired: renew them and run again"
_UNKNOWN_KEY: Final = "the access key is not known: check the AWS credentials"
_SIGNATURE: Final = "the signature does not match: check the AWS credentials and this machine's clock"

REFUSED_CREDENTIALS: Final = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    "SignatureDoesNotMatch": _SIGNATURE,
    "InvalidSignatureException": _SIGNATURE,
    "IncompleteSignature": _SIGNATURE,
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "InvalidClientTokenId": _UNKNOWN_KEY,
    "UnrecognizedClientException": _UNKNOWN_KEY,
    "InvalidToken": "the session token is not valid: check AWS_SESSION_TOKEN, or log in again",
    "InvalidIdentityToken": "the web identity token is not valid: check AWS_WEB_IDENTITY_TOKEN_FILE",
    "MissingAuthenticationToken": "the request is not signed: check the AWS credentials",
    "MissingAuthenticationTokenException": "the request is not signed: check the AWS credentials",
    "OptInRequired": "the account has not opted in to the service or the region",
    "NotSignedUp": "the account has not signed up for the service",
}
"""Codes by which any service refuses the credentials, or the clock that they were signed by."""

LOST: Final = (boto.HTTPClientError, boto.ConnectionError)
"""A request that did not get through."""

GARBLED: Final = (
    ResponseParserError,
    UnicodeDecodeError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    boto.PaginationError,
)
"""An answer that cannot be read."""

UNANSWERED: Final = (boto.BotoCoreError, ResponseParserError, UnicodeDecodeError)
"""What a call may raise beside a refusal (ClientError)."""

_SSO: Final = (boto.SSOError, boto.TokenRetrievalError, boto.NoAuthTokenError)
CREDENTIALS: Final = (
    *_SSO,
    boto.LoginError,
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.RefreshWithMFAUnsupportedError,
)
"""Credentials that are not there, or cannot be had."""

CONFIGURATION: Final = (
    boto.ApiVersionNotFoundError,
    boto.BaseEndpointResolverError,
    boto.ConfigNotFound,
    boto.ConfigParseError,
    boto.DataNotFoundError,
    boto.EndpointProviderError,
    boto.InvalidChecksumConfigError,
    boto.InvalidConfigError,
    boto.InvalidDNSNameError,
    boto.InvalidDefaultsMode,
    boto.InvalidEndpointConfigurationError,
    boto.InvalidEndpointDiscoveryConfigurationError,
    boto.InvalidIMDSEndpointError,
    boto.InvalidIMDSEndpointModeError,
    boto.InvalidProxiesConfigError,
    boto.InvalidRegionError,
    boto.InvalidRetryConfigurationError,
    boto.InvalidS3AddressingStyleError,
    boto.InvalidS3UsEast1RegionalEndpointConfigError,
    boto.InvalidSTSRegionalEndpointsConfigError,
    boto.MD5UnavailableError,
    boto.MissingDependencyException,
    boto.ProfileNotFound,
    boto.ServiceNotInRegionError,
    boto.UnknownCredentialError,
    boto.UnknownRegionError,
    boto.UnknownSignatureVersionError,
    boto.UnknownTokenProviderError,
    boto.UnsupportedS3ConfigurationError,
    boto.UnsupportedServiceProtocolsError,
    boto.UnsupportedSignatureVersionError,
)
"""A profile, a variable or an installation that boto3 cannot work with."""

NO_CREDENTIALS: Final = (
    "no usable AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
    "(aws sts get-caller-identity tells)"
)
_NOT_CONFIGURED: Final = "boto3 cannot work with its configuration"
_NOT_RENEWED: Final = "the AWS credentials cannot be renewed: check the profile, or log in again"
_INVALID_SETTING: Final = "a setting (AWS_ENDPOINT_URL_*, AWS_CONFIG_FILE) is not valid"
_CODE: Final = re.compile(r"[A-Za-z0-9.]{1,64}")
_PASSWORD: Final = re.compile(r"//[^/@\s]*@")
_ISSUERS: Final = {
    "AssumeRole": ("sts", "check that the role is there and trusts who assumes it"),
    "AssumeRoleWithWebIdentity": ("sts", "check AWS_ROLE_ARN, and that the role trusts the identity provider"),
    "GetRoleCredentials": ("sso", "check `sso_account_id` and `sso_role_name`, and that the role is assigned to you"),
    "CreateToken": ("sso-oidc", "log in again"),
    "CreateOAuth2Token": ("signin", "log in again"),
}
"""The requests by which boto3 itself gets credentials: their service, and what to do where they are refused."""
THROTTLED: Final = frozenset({"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"})
_SERVER_ERROR: Final = 500


def configuration_failure(error: Exception) -> UsageError:
    """That boto3 cannot work with what it finds, in its own words, which name settings."""
    if isinstance(error, boto.NoRegionError):
        return UsageError("no AWS region: set AWS_DEFAULT_REGION or AWS_REGION, or a region in your profile")
    if isinstance(error, CREDENTIALS):
        return credentials_failure(error, None)
    # Others are not quoted: a URL may hold a password.
    text = (
        _PASSWORD.sub("//", " ".join(str(error).split())) if isinstance(error, boto.BotoCoreError) else _INVALID_SETTING
    )
    return UsageError(f"{_NOT_CONFIGURED}: {text}")


def credentials_failure(error: Exception, profile: str | None) -> UsageError:
    """Why there are no credentials; never what a program or a service said, which may hold some.

    Args:
        error: Of any class: boto3 reads files, runs programs and asks services for credentials.
        profile: That they are for; None: no profile is chosen.
    """
    if isinstance(error, CONFIGURATION):
        return configuration_failure(error)
    return UsageError(f"no usable AWS credentials: {why}" if (why := _why(error, profile)) else NO_CREDENTIALS)


def may_pass(error: Exception) -> bool:
    """Whether credentials that were had before may be had again in a moment."""
    if isinstance(error, boto.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= _SERVER_ERROR or error_code(error) in THROTTLED
    return isinstance(error, (*LOST, *GARBLED, boto.CredentialRetrievalError)) and not _cannot_check_certificate(error)


def _why(error: Exception, profile: str | None) -> str | None:  # noqa: C901, PLR0911  # one for each kind
    match error:
        case boto.NoCredentialsError():
            return None
        case boto.ClientError():
            return _refusal(error)
        case boto.RefreshWithMFAUnsupportedError() | EOFError():
            return "the role asks for an MFA code: run with a session that has one (aws sts get-session-token)"
        case boto.PartialCredentialsError():
            return f"{error.kwargs['provider']} gives only a part of them: {error.kwargs['cred_var']} is missing"
        case boto.CredentialRetrievalError():
            return f"{error.kwargs['provider']} gives none: check the profile, or what gives them"
        case RuntimeError():
            return "they have expired already when boto3 gets them: check what gives them, and this machine's clock"
        case OSError():
            return f"{error.filename or 'a file or program of the profile'}: {error.strerror or type(error).__name__}"
    if isinstance(error, _SSO):
        sso = _sso_profile(profile)
        command = f"aws sso login --profile {sso}" if sso else "aws sso login"
        return f"the AWS SSO session has expired or was never begun; log in: {command}"
    if isinstance(error, boto.LoginError):
        command = f"aws login --profile {profile}" if profile else "aws login"
        return f"the AWS login has expired or was never begun; log in: {command}"
    if isinstance(error, LOST):
        return _lost(error)
    return f"what should give them does not answer as boto3 expects ({type(error).__name__})"


def _refusal(error: boto.ClientError) -> str:
    service, advice = _ISSUERS.get(error.operation_name, ("AWS", "check the profile"))
    code = error_code(error)
    return f"{service}:{error.operation_name} is refused with {code}: {REFUSED_CREDENTIALS.get(code, advice)}"


def _sso_profile(profile: str | None) -> str | None:
    """The profile that logs in for another, which takes a role from it."""
    known = botocore.session.Session().full_config["profiles"]
    passed: set[str] = set()
    found = profile or "default"
    while found not in passed and "source_profile" in known.get(found, {}):
        passed.add(found)
        found = known[found]["source_profile"]
    return found if profile or found != "default" else None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """What it means that a request got no answer, or none that can be read.

    Attributes:
        advice: What is wrong, and what to do.
        may_pass: Whether trying again may help.
    """

    advice: str
    may_pass: bool


def no_answer(error: Exception, variable: str) -> NoAnswer:
    """What a failure of botocore's means that is no refusal (ClientError); nothing of the request is in it.

    Args:
        error: What the call raised.
        variable: Names the endpoint, as `AWS_ENDPOINT_URL_S3`.
    """
    if isinstance(error, CREDENTIALS):
        advice = NO_CREDENTIALS if isinstance(error, boto.NoCredentialsError) else _NOT_RENEWED
        return NoAnswer(advice, may_pass=may_pass(error))
    if isinstance(error, CONFIGURATION):
        advice = f"{_NOT_CONFIGURED} ({type(error).__name__}): check the profile and the AWS_* variables"
        return NoAnswer(advice, may_pass=False)
    if _cannot_check_certificate(error):
        advice = "the endpoint's certificate is not trusted: check AWS_CA_BUNDLE, the file that it names, and proxies"
        return NoAnswer(advice, may_pass=False)
    if isinstance(error, GARBLED):
        return NoAnswer(f"the answer cannot be read: check {variable} and proxies", may_pass=True)
    if isinstance(error, LOST):
        advice = f"{_lost(error)}: check region, network, proxies and {variable}"
        return NoAnswer(advice, may_pass=True)
    return NoAnswer(f"boto3 refuses the request ({type(error).__name__}); please report that line", may_pass=False)


def _lost(error: boto.BotoCoreError) -> str:
    """That a request did not get through, and to which host."""
    address = next((error.kwargs[name] for name in ("proxy_url", "endpoint_url") if name in error.kwargs), "")
    return f"{urlsplit(address).hostname or 'the endpoint'} cannot be reached ({type(error).__name__})"


def _cannot_check_certificate(error: BaseException) -> bool:
    """Whether this side refused a certificate, or has none to check it by; a connection may also have been cut."""
    if isinstance(error, ssl.SSLCertVerificationError | FileNotFoundError):
        return True
    if isinstance(error, ssl.SSLError) and error.reason == "NO_CERTIFICATE_OR_CRL_FOUND":
        return True
    return any(_cannot_check_certificate(cause) for cause in (error.__cause__, error.__context__) if cause)


def error_code(error: boto.ClientError) -> str:
    """The code of an answer that refuses; ``unknown`` where it is none that a service would make up."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if _CODE.fullmatch(code) else "unknown"
