"""Make the alarms of automations.yaml on a Prefect server, or renew them, so that they tell a receiver.

    AHI_CATALOG_NOTIFY=https://hooks.slack.com/services/... python deploy/alarms.py

The receiver takes JSON with a `text`: Slack, Teams, Mattermost and most others do. The server is that of Prefect's
settings (PREFECT_API_URL, or the profile); it keeps the URL as a secret, in the block `ahi-catalog-alarms`.
"""

import os
from pathlib import Path

import yaml
from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock

receiver = CustomWebhookNotificationBlock(
    name="ahi-catalog",
    url="{{url}}",
    secrets={"url": os.environ["AHI_CATALOG_NOTIFY"]},
    json_data={"text": "{{subject}}\n{{body}}"},
)
block_id = receiver.save("ahi-catalog-alarms", overwrite=True)
tell = {
    "type": "send-notification",
    "block_document_id": str(block_id),
    "subject": "{{ automation.name }}",
    "body": "{{ event.resource.name or firing.triggering_labels['prefect.resource.id'] }}",
}
for given in yaml.safe_load(Path(__file__).with_name("automations.yaml").read_text(encoding="utf-8"))["automations"]:
    alarm = Automation(**given | {"actions": [tell]})
    try:
        alarm.id = Automation.read(name=alarm.name).id
        alarm.update()
    except ValueError:
        alarm.create()
    print(f"{alarm.name}: tells the receiver")
