"""A sync after an import: the trigger in prefect.yaml fires on what the recipes of docs/events.md send to Prefect."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import jinja2
import pytest
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import Event, ReceivedEvent

from tests.flows.test_deployments import DATASTORE, of_prefect_yaml

PAGE = (Path(__file__).parents[2] / "docs/events.md").read_text(encoding="utf-8")


def envelope(what: str = "Import Job Completed", datastore_id: str = DATASTORE) -> dict[str, Any]:
    """The event as EventBridge sends it on."""
    detail = {"datastoreId": datastore_id, "jobId": "c" * 32, "jobName": "", "jobStatus": "COMPLETED"}
    return {
        "version": "0",
        "id": "7cf0fb1c-8720-4d48-baa3-6eb97b35a10e",
        "detail-type": what,
        "source": "aws.medical-imaging",
        "time": "2024-06-01T12:00:00Z",
        "detail": detail,
    }


def block(language: str) -> str:
    [text] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def by_webhook(event: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Event:
    """What Prefect Cloud's webhook makes of the body of an API destination's request."""
    del monkeypatch
    return Event.model_validate_json(
        jinja2.Template(block("jinja"), autoescape=False).render(body=event)
    )  # as Prefect renders it


def by_forwarder(event: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Event:
    """What the Lambda function posts to a server."""
    sent: list[urllib.request.Request] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, timeout: sent.extend([request] * bool(timeout)))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    names: dict[str, Any] = {}
    exec(compile(block("python"), "events.md", "exec"), names)  # noqa: S102  # our own page
    names["handler"](event, None)
    [request] = sent
    assert request.full_url == "http://127.0.0.1:4200/api/events"
    assert isinstance(request.data, bytes)
    [told] = json.loads(request.data)
    return Event.model_validate(told)


def trigger() -> DeploymentEventTrigger:
    [sync, *_] = of_prefect_yaml()
    [found] = sync["triggers"]
    return DeploymentEventTrigger.model_validate(found)


def test_the_trigger_is_off() -> None:
    """Whoever wants it enables it; the deployment's own parameters hold."""
    assert (trigger().enabled, trigger().parameters) == (False, None)


@pytest.mark.parametrize("send", [by_webhook, by_forwarder])
def test_an_import_of_this_data_store_fires_it(send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And neither another event, nor another data store's."""
    fields = trigger().model_dump(mode="json", exclude_unset=True)
    made = EventTrigger.model_validate({name: fields[name] for name in ("match", "expect")} | {"posture": "Reactive"})

    def fires(event: dict[str, Any]) -> bool:
        received: ReceivedEvent = send(event, monkeypatch).receive()
        return made.covers(received) and made.expects(received.event)

    assert fires(envelope())
    assert not fires(envelope("Import Job Failed"))
    assert not fires(envelope(datastore_id="f" * 32))
