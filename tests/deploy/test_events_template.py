"""The CloudFormation template of the events' queue: valid, created, and an event reaches the queue through it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cfnlint.api import lint_all
from cfnlint.decode import decode_str

from ahi_catalog.connectors.events import Event, open_queue
from ahi_catalog.connectors.iam import Place, policy
from tests.support.event_queue import envelope

TEMPLATE = (Path(__file__).parents[2] / "deploy/events.yaml").read_text(encoding="utf-8")
STORE, OTHER, IMAGE_SET = "a" * 32, "b" * 32, "c" * 32
KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS..SQS..QueuePolicy")


@pytest.fixture
def aws(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    """An account in which the stack of the test is made, and deleted afterwards."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_server)
    session = boto3.Session()
    yield session
    session.client("cloudformation").delete_stack(StackName="events")


def create(session: boto3.Session, **parameters: str) -> dict[str, str]:
    """The outputs of the stack, made with these parameters."""
    client: Any = session.client("cloudformation")
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
    client.create_stack(StackName="events", TemplateBody=TEMPLATE, Parameters=given, Capabilities=["CAPABILITY_IAM"])
    [stack] = client.describe_stacks(StackName="events")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}


def attributes(session: boto3.Session, url: str) -> dict[str, str]:
    client: Any = session.client("sqs")
    found: dict[str, str] = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return found


def test_cfn_lint_finds_nothing() -> None:
    """No error, no warning."""
    assert [str(match) for match in lint_all(TEMPLATE) if not match.rule.id.startswith("I")] == []


def test_an_event_reaches_the_queue(aws: boto3.Session) -> None:
    """Of the data store that was asked for, and of those kinds that a search can show."""
    outputs = create(aws, DatastoreId=STORE)
    told = [("Image Set Created", STORE), ("Image Set Deleting", STORE), ("Image Set Deleted", OTHER)]
    told += [("Image Set Deleted", STORE)]
    entries = [
        {
            "Source": "aws.medical-imaging",
            "DetailType": what,
            "Detail": json.dumps(envelope(what, of, IMAGE_SET)["detail"]),
        }
        for what, of in told
    ]
    events: Any = aws.client("events")
    assert events.put_events(Entries=entries)["FailedEntryCount"] == 0
    received = open_queue(outputs["QueueUrl"]).receive(0.1, threading.Event())
    assert {(event.datastore_id, event.image_set_id, event.deleted) for event in received} == {
        (STORE, IMAGE_SET, False),
        (STORE, IMAGE_SET, True),
    }
    assert all(isinstance(event, Event) for event in received)


def test_the_queue_is_encrypted_and_has_a_dead_letter_queue(aws: boto3.Session) -> None:
    """With SQS's keys unless told otherwise; and events of all data stores come."""
    outputs = create(aws)
    found = attributes(aws, outputs["QueueUrl"])
    dead = attributes(aws, outputs["DeadLetterQueueUrl"])
    assert json.loads(found["RedrivePolicy"])["deadLetterTargetArn"] == dead["QueueArn"]
    assert found["SqsManagedSseEnabled"] == dead["SqsManagedSseEnabled"] == "true"
    rules: Any = aws.client("events")
    [rule] = rules.list_rules()["Rules"]
    assert json.loads(rule["EventPattern"])["source"] == ["aws.medical-imaging"]
    assert "detail" not in json.loads(rule["EventPattern"])


def test_only_the_rule_may_send() -> None:
    """moto knows no queue policy in a template, so its text is read: to both queues, the rule alone, over TLS alone."""
    template, errors = decode_str(TEMPLATE)
    assert not errors
    properties = template["Resources"]["QueuePolicy"]["Properties"]
    assert properties["Queues"] == [{"Ref": "Queue"}, {"Ref": "DeadLetterQueue"}]
    allow, deny = properties["PolicyDocument"]["Statement"]
    assert (allow["Effect"], allow["Action"]) == ("Allow", "sqs:SendMessage")
    assert allow["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["Rule", "Arn"]}}}
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_readers_policy_is_what_iam_policy_prints(aws: boto3.Session) -> None:
    """The queue's statements, and with a key of one's own the key's."""
    outputs = create(aws, KmsKeyArn=KEY)
    found = attributes(aws, outputs["QueueUrl"])
    assert found["KmsMasterKeyId"] == KEY
    iam: Any = aws.client("iam")
    [version] = iam.list_policy_versions(PolicyArn=outputs["ReaderPolicyArn"])["Versions"]
    document = iam.get_policy_version(PolicyArn=outputs["ReaderPolicyArn"], VersionId=version["VersionId"])
    place = Place(bucket=None, prefix="", datastore_ids=(STORE,), queue=outputs["QueueUrl"], queue_kms_key=KEY)
    printed = [each for each in policy(["sync"], place)["Statement"] if each["Sid"].startswith("Queue")]
    statements = document["PolicyVersion"]["Document"]["Statement"]
    assert [each["Action"] for each in statements] == [each["Action"] for each in printed]
    assert statements[0]["Resource"] == [found["QueueArn"]]
    assert statements[1] == printed[1]
