"""The smallest IAM policy for what the tool does. Pure.

Sources: the service authorization references of AWS HealthImaging, S3, SQS, KMS, Secrets Manager, Glue and S3 Tables
(https://docs.aws.amazon.com/service-authorization/latest/reference/).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ahi_catalog.schemas import IMAGE_SETS, REMOVALS
from ahi_catalog.schemas.series import DERIVED_TABLES

CALLS: Final[Mapping[str, frozenset[str]]] = {
    "sync": frozenset(
        {
            "medical-imaging:SearchImageSets",
            "medical-imaging:GetImageSet",
            "medical-imaging:GetDatastore",
            "s3:GetObject",
            "s3:PutObject",
            "s3:ListObjectsV2",
        }
    ),
    "verify": frozenset(
        {
            "medical-imaging:SearchImageSets",
            "medical-imaging:GetImageSet",
            "s3:GetObject",
            "s3:PutObject",
            "s3:ListObjectsV2",
        }
    ),
    "metadata": frozenset(
        {
            "medical-imaging:GetImageSetMetadata",
            "medical-imaging:SearchImageSets",
            "s3:GetObject",
            "s3:PutObject",
            "s3:ListObjectsV2",
        }
    ),
    "query": frozenset({"s3:GetObject", "s3:ListObjectsV2"}),
}
"""The API operations that each job calls; a test compares them with the calls made.

A backfill's are verify's; a watch's are sync's, and metadata's where it reads metadata.
"""

_ACTIONS: Final = {"s3:ListObjectsV2": "s3:ListBucket"}
"""Where the action to allow has another name than the operation."""
_OF_QUEUE: Final = ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
"""The attributes are for whoever checks the queue before it is used."""
_USING_METADATA: Final = frozenset({"metadata", "verify", "query"})
"""Jobs that read what is derived from metadata."""
_OF_GLUE: Final = ["glue:CreateDatabase", "glue:CreateTable", "glue:GetDatabase", "glue:GetTable", "glue:UpdateTable"]
_OF_TABLE_BUCKET: Final = ["CreateNamespace", "CreateTable", "GetNamespace", "GetTableBucket"]
_OF_TABLE: Final = [
    "GetTable",
    "GetTableData",
    "GetTableMetadataLocation",
    "PutTableData",
    "UpdateTableMetadataLocation",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class IcebergTables:
    """Where Iceberg tables are, by PyIceberg's settings.

    Attributes:
        kind: Of the catalog: ``glue``, ``rest``, ``sql``.
        namespace: Of the tables; in Glue a database.
        warehouse: ``s3://bucket/prefix``, or the ARN of a bucket of S3 Tables; anything else takes no rights in AWS.
    """

    kind: str
    namespace: str
    warehouse: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things lie.

    Attributes:
        bucket: The catalog's; None: it is a local folder.
        prefix: In the bucket, without slashes at its ends; may be empty.
        datastore_ids: The data stores; none: all of the account and region, which a run then lists.
        partition: ``aws``, ``aws-us-gov``, ``aws-cn``.
        region: Of the data store, or ``*``.
        account: Twelve digits, or ``*``.
        kms_key: Of the objects, as boto3 takes it: an id, an ARN, an alias or an alias's ARN; None: no such key.
        secret: Of AWS Secrets Manager that holds the PHI key, a name or an ARN; None: it is elsewhere.
        queue: The URL of the queue of events; None: there is none.
        queue_kms_key: Of the queue's messages, named as `kms_key` is; None: SQS's own.
        iceberg: The tables that a run mirrors the catalog into; None: it does not.
    """

    bucket: str | None
    prefix: str
    datastore_ids: tuple[str, ...]
    partition: str = "aws"
    region: str = "*"
    account: str = "*"
    kms_key: str | None = None
    secret: str | None = None
    queue: str | None = None
    queue_kms_key: str | None = None
    iceberg: IcebergTables | None = None

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource in the region and account."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def policy(jobs: Collection[str], place: Place) -> dict[str, Any]:
    """The policy document that allows jobs and nothing else.

    Args:
        jobs: Keys of CALLS.
        place: Where things lie.
    """
    jobs = set(jobs)
    has_derived = jobs & _USING_METADATA or place.iceberg
    tables = (IMAGE_SETS, REMOVALS, *(DERIVED_TABLES if has_derived else ()))
    actions = {_ACTIONS.get(call, call) for job in jobs for call in CALLS[job]}
    is_reading = any(action.startswith("medical-imaging:") for action in actions)
    stores = [place.arn("medical-imaging", f"datastore/{each}") for each in place.datastore_ids or ("*",)]
    image_sets = [f"{store}/imageset/*" for store in stores]
    statements = [
        _statement("Search", actions, {"SearchImageSets", "GetDatastore"}, stores),
        # Both require both resource types.
        _statement("Confirm", actions, {"GetImageSet"}, [*stores, *image_sets]),
        _statement("Metadata", actions, {"GetImageSetMetadata"}, [*stores, *image_sets]),
    ]
    if is_reading and not place.datastore_ids:
        statements.append(_allow("AllStores", ["medical-imaging:ListDatastores"], ["*"]))
    if place.bucket is not None:
        root = f"{place.prefix}/" if place.prefix else ""
        bucket = f"arn:{place.partition}:s3:::{place.bucket}"
        below = [f"{root}{folder}/*" for folder in (*(table.name for table in tables), "_state")]
        statements += [
            _statement("Objects", actions, {"GetObject", "PutObject"}, [f"{bucket}/{path}" for path in below]),
            _statement("List", actions, {"ListBucket"}, [bucket], {"StringLike": {"s3:prefix": below}}),
        ]
        if place.kms_key is not None:
            statements.append(_kms(place, place.kms_key, is_writing="s3:PutObject" in actions))
    if place.secret is not None and is_reading:
        statements.append(_allow("PhiKey", ["secretsmanager:GetSecretValue"], [_secret(place, place.secret)]))
    if place.queue is not None and "sync" in jobs:
        statements.append(_allow("Queue", _OF_QUEUE, [_queue(place, place.queue)]))
        if place.queue_kms_key is not None:
            statements.append(_kms(place, place.queue_kms_key, is_writing=False) | {"Sid": "QueueKey"})
    if place.iceberg is not None and "s3:PutObject" in actions:
        statements += _iceberg(place, place.iceberg)
    return {"Version": "2012-10-17", "Statement": [found for found in statements if found]}


def _statement(
    sid: str, actions: set[str], names: set[str], resources: list[str], condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Allow those of the actions that have such names; empty where there are none."""
    allowed = sorted(action for action in actions if action.partition(":")[2] in names)
    return _allow(sid, allowed, resources, condition) if allowed else {}


def _allow(
    sid: str, actions: list[str], resources: list[str], condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    more = {"Condition": condition} if condition else {}
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources, **more}


def _kms(place: Place, key: str, *, is_writing: bool) -> dict[str, Any]:
    """S3 asks KMS in the caller's name: to read an object, Decrypt; to write one, GenerateDataKey."""
    actions = ["kms:Decrypt", *(["kms:GenerateDataKey"] if is_writing else [])]
    if (alias := re.fullmatch(r"(?P<arn>arn:[^:]+:kms:[^:]+:[^:]+:)?(?P<alias>alias/.+)", key)) is not None:
        # A policy cannot name an alias as its resource.
        keys = f"{alias['arn'] or place.arn('kms', '')}key/*"
        return _allow("Key", actions, [keys], {"ForAnyValue:StringEquals": {"kms:ResourceAliases": alias["alias"]}})
    return _allow("Key", actions, [key if key.startswith("arn:") else place.arn("kms", f"key/{key}")])


def _iceberg(place: Place, tables: IcebergTables) -> list[dict[str, Any]]:
    """What a mirror calls: of the catalog, and of S3 for the files of the tables, which it deletes too."""
    statements = []
    if tables.kind == "glue":
        names = ("catalog", f"database/{tables.namespace}", f"table/{tables.namespace}/*")
        statements.append(_allow("Tables", _OF_GLUE, [place.arn("glue", name) for name in names]))
    if ":s3tables:" in tables.warehouse:
        return [
            *statements,
            _allow("TableBucket", [f"s3tables:{name}" for name in _OF_TABLE_BUCKET], [tables.warehouse]),
            _allow("Tables", [f"s3tables:{name}" for name in _OF_TABLE], [f"{tables.warehouse}/table/*"]),
        ]
    if tables.warehouse.startswith("s3://"):
        name, _, prefix = tables.warehouse.removeprefix("s3://").rstrip("/").partition("/")
        bucket = f"arn:{place.partition}:s3:::{name}"
        # As PyIceberg names a database's folder, unless the database has a location of its own.
        parts = (prefix, f"{tables.namespace}.db" if tables.kind == "glue" else "", "*")
        below = "/".join(part for part in parts if part)
        statements += [
            _allow("TableFiles", ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"], [f"{bucket}/{below}"]),
            _allow("TableList", ["s3:ListBucket"], [bucket], {"StringLike": {"s3:prefix": [below]}}),
        ]
    return statements


def _secret(place: Place, secret: str) -> str:
    # An ARN ends in six characters that are not part of the name.
    return secret if secret.startswith("arn:") else place.arn("secretsmanager", f"secret:{secret}-??????")


def _queue(place: Place, url: str) -> str:
    """A queue's ARN by its URL, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME; other endpoints tell no region."""
    *_, host, account, name = url.split("/")
    region = re.match(r"sqs\.([a-z0-9-]+)\.amazonaws\.", host)
    return f"arn:{place.partition}:sqs:{region[1] if region else place.region}:{account}:{name}"
