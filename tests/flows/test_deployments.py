"""The deployments: what prefect.yaml and serve register, and what Prefect's form shows of the flows' parameters."""

import json
import re
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prefect import Flow
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.flows import load_flow_from_entrypoint
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import Event
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate

from ahi_catalog.cli.main import LIBRARIES, run
from ahi_catalog.cli.runs import sync as sync_command
from ahi_catalog.cli.serve import make_plan, serve
from ahi_catalog.connectors.durations import PATTERN, format_duration, parse_duration
from ahi_catalog.connectors.settings import MetadataOptions, Options, Quota, Settings, declared
from ahi_catalog.flows import events
from ahi_catalog.flows.backfill import backfill
from ahi_catalog.flows.deployments import make_deployments
from ahi_catalog.flows.metadata import metadata
from ahi_catalog.flows.parameters import make_settings, parameters_of
from ahi_catalog.flows.sync import sync
from ahi_catalog.flows.verify import verify
from ahi_catalog.flows.watch import watch
from ahi_catalog.pipeline.many import EACH, Result
from ahi_catalog.pipeline.run_report import RunReport

ROOT = Path(__file__).parents[2]
DATASTORE = "0" * 32
VALUES = {
    "AHI_CATALOG_CATALOG": "s3://bucket/imaging",
    "AHI_CATALOG_DATASTORE_ID": DATASTORE,
    "AHI_CATALOG_NAME": "radiology",
    "AHI_CATALOG_WORK_POOL": "workers",
}
FLOWS: dict[str, Flow[..., Any]] = {
    "sync": sync,
    "verify": verify,
    "backfill": backfill,
    "watch": watch,
    "metadata": metadata,
}


def of_prefect_yaml() -> list[dict[str, Any]]:
    """The deployments of prefect.yaml, with their variables filled in as `prefect deploy` does."""
    text = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    filled = re.sub(r"\{\{ \$(\w+) \}\}", lambda found: VALUES[found[1]], text)
    deployments: list[dict[str, Any]] = yaml.safe_load(filled)["deployments"]
    return deployments


def of_serve(*arguments: str) -> list[RunnerDeployment]:
    """The deployments of `ahi-catalog serve`."""
    told = ["--catalog", "s3://bucket/imaging", "--datastore-id", DATASTORE, "--name", "radiology", *arguments]
    params = serve.make_context("serve", told).params
    return make_deployments(make_plan(**{name: value for name, value in params.items() if name != "replace"}))


def test_serve_registers_what_prefect_yaml_does() -> None:
    """Names, entry points, tags, schedules, limits and parameters are the same, and flows are found by them."""
    for written, served in zip(of_prefect_yaml(), of_serve(), strict=True):
        assert (written["name"], written["entrypoint"], written["tags"]) == (
            served.name,
            served.entrypoint,
            served.tags,
        )
        assert written["parameters"] == served.parameters
        schedules = [each.schedule for each in served.schedules or []]
        assert written.get("schedules", []) == [{"cron": s.cron, "timezone": s.timezone} for s in schedules]  # type: ignore[union-attr]
        assert served.concurrency_options is not None
        assert written["concurrency_limit"] == {
            "limit": served.concurrency_limit,
            "collision_strategy": served.concurrency_options.collision_strategy.value,
            "grace_period_seconds": served.concurrency_options.grace_period_seconds,
        }
        if served.triggers:  # An import is an event that somebody has to send to Prefect (docs/events.md).
            assert [DeploymentEventTrigger.model_validate(each) for each in written["triggers"]] == served.triggers
        assert load_flow_from_entrypoint(written["entrypoint"], use_placeholder_flow=False).name == served.flow_name


def test_the_default_name_tells_catalog_and_data_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that two catalogs of one data store, or folders of one name in two places, are served side by side."""
    monkeypatch.chdir(tmp_path)
    named = {}
    for catalog in ("s3://dev-bucket/imaging", "s3://prod-bucket/imaging/", "catalog"):
        params = serve.make_context("serve", ["--catalog", catalog, "--datastore-id", DATASTORE]).params
        plan = make_plan(**{name: value for name, value in params.items() if name != "replace"})
        named[plan.name] = plan.settings.catalog
    folder = str(tmp_path / "catalog")
    assert list(named.values())[-1] == folder
    assert list(named) == [
        f"dev-bucket-imaging-{DATASTORE}",
        f"prod-bucket-imaging-{DATASTORE}",
        f"{folder.strip('/').replace('/', '-')}-{DATASTORE}",
    ]


def test_runs_of_a_worker_have_the_memory_of_the_command_line() -> None:
    """What the command line sets for its libraries, prefect.yaml sets for the processes of a work pool."""
    for written in of_prefect_yaml():
        assert written["work_pool"]["job_variables"]["env"].items() >= LIBRARIES.items()


def test_serve_takes_what_sync_takes() -> None:
    """Every option of a sync is one of serve's, but those of a single run at a terminal, or on several data stores."""
    missing = {option.name for option in sync_command.params} - {option.name for option in serve.params}
    assert missing == {"all", "prefect", "as_json"}


def test_what_serve_is_told_reaches_the_runs() -> None:
    """The settings of each deployment's runs are those of a sync with the same options, its share of the quota."""
    told = ["--settle", "30m", "--partition", "month", "--dask", "local", "--concurrency", "3"]
    told += ["--phi", "pseudonymize", "--keep-text", "--shift-dates", "--phi-key-from", "file:/run/key"]
    told += [
        "--kms-key",
        "alias/catalog",
        "--bucket-owner",
        "123456789012",
        "--share",
        "0.5",
        "--buffer-bytes",
        "5000000",
    ]
    wanted = Settings(
        catalog="s3://bucket/imaging",
        datastore_id=DATASTORE,
        quota=Quota(rate=5, burst=10),
        concurrency=3,
        settle=parse_duration("30m"),
        partition="month",
        phi="pseudonymize",
        keep_text=True,
        shift_dates=True,
        phi_key_from="file:/run/key",
        bucket_owner="123456789012",
        kms_key="alias/catalog",
        buffer_bytes=5_000_000,
        dask="local",
    )
    told += ["--metadata", "--keyword", "ExposureTime", "--instances", "--metadata-rate", "40"]
    deployments = of_serve(*told, "--look-back", "2d", "--start", "2024-01-01")
    of_sync, of_verify, of_backfill, of_metadata = (each.parameters for each in deployments)
    [trigger] = deployments[-1].triggers
    assert isinstance(trigger, DeploymentEventTrigger)
    assert trigger.enabled
    options = MetadataOptions(metadata_rate=20, metadata_burst=50, keyword=("ExposureTime",), instances=True)
    assert make_settings(**of_metadata) == replace(wanted, quota=Quota(), metadata=options)
    wanted_sync = replace(wanted, look_back=parse_duration("2d"), start=datetime(2024, 1, 1, tzinfo=UTC))
    assert make_settings(**of_sync) == wanted_sync
    assert of_verify.pop("part") == "today/30"
    assert make_settings(**of_verify) == replace(wanted, quota=Quota(rate=2.5, burst=5))
    assert make_settings(**of_backfill) == wanted


@pytest.mark.parametrize(
    ("catalog", "flow", "met"),
    [("imaging", "sync", [True]), ("imaging", "verify", [False]), ("other", "sync", [False])],
)
def test_metadata_is_read_after_a_sync_of_its_own_catalog(
    catalog: str, flow: str, met: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trigger meets what a sync of this catalog and data store emits, and is off until it is asked for."""
    [found] = of_prefect_yaml()[-1]["triggers"]
    assert found["enabled"] is False
    made = EventTrigger.model_validate({name: found[name] for name in ("match", "expect")} | {"posture": "Reactive"})
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(
        events, "emit_event", lambda event, resource, **_: sent.append({"event": event, "resource": resource})
    )
    monkeypatch.setattr(events, "flow_run", SimpleNamespace(flow_name=flow))
    report = RunReport(flow=flow, run_id="0" * 8, datastore_id=DATASTORE, started_at=datetime.now(UTC))
    events.tell(f"s3://bucket/{catalog}", [Result(datastore_id=DATASTORE, report=report)])
    received = [Event.model_validate({**each, "occurred": datetime.now(UTC), "id": uuid.uuid4()}) for each in sent]
    assert [made.covers(each.receive()) and made.expects(each.event) for each in received] == met


def test_shares_of_the_quota_add_up_to_it() -> None:
    """What the deployments may use together is the default quota."""
    used = [each["parameters"] for each in of_prefect_yaml() if "rate" in each["parameters"]]
    assert (sum(each["rate"] for each in used), sum(each["burst"] for each in used)) == (Quota().rate, Quota().burst)


@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_is_typed_and_described(name: str) -> None:
    """The form shows a type and a sentence for each parameter, of the options too; none asks for a secret."""
    schema = parameter_schema(FLOWS[name]).model_dump()
    options = schema["definitions"]["Options"]["properties"]
    for parameter, shown in [*schema["properties"].items(), *options.items()]:
        assert shown.keys() & {"type", "anyOf", "$ref"}, parameter
        if parameter != "options":  # described by its own definition
            assert shown["description"].endswith("."), parameter
    assert not [
        parameter for parameter in schema["properties"] if re.search("key(?!word)|secret|token|password", parameter)
    ]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sync", {"look_back": "1 day"}),
        ("sync", {"rate": 0}),
        ("sync", {"datastore_ids": ["not one"]}),
        ("sync", {"datastore_ids": []}),
        ("sync", {"options": {"phi": "hide"}}),
        ("sync", {"credentials": "aws-credentials/mine"}),
        ("sync", {"options": {"settle": "soon"}}),
        ("sync", {"options": {"unknown": 1}}),
        ("verify", {"part": "yesterday/30"}),
    ],
)
def test_the_form_refuses_what_is_wrong(name: str, wrong: dict[str, Any]) -> None:
    """Prefect's own validation of the schema refuses it when the run is asked for, not when it starts at night."""
    schema = parameter_schema(FLOWS[name]).model_dump()
    right = {"catalog": "s3://bucket/imaging", "datastore_ids": [DATASTORE]}
    assert not validate(right, schema, raise_on_error=False)
    assert validate(right | wrong, schema, raise_on_error=False)


@given(st.integers(0, 999_999), st.sampled_from("smhd"))
def test_durations_are_read_as_they_are_written(number: int, unit: str) -> None:
    """Whatever a duration's text, writing and reading it again gives the same, in a text that the form takes."""
    duration = parse_duration(f"{number}{unit}")
    written = format_duration(duration)
    # A number of seconds may be too long for the text's six digits only where the unit was larger, and then it shrinks.
    assert re.fullmatch(PATTERN, written)
    assert parse_duration(written) == duration


@given(
    st.builds(
        Settings,
        catalog=st.just("s3://bucket/imaging"),
        datastore_id=st.sampled_from([DATASTORE, EACH]),
        quota=st.builds(Quota, rate=st.floats(0.1, 1e6), burst=st.integers(1, 10_000)),
        concurrency=st.none() | st.integers(1, 99),
        dask=st.sampled_from([None, "local", "tcp://10.0.0.1:8786"]),
        phi=st.just("pseudonymize"),
        keep_text=st.booleans(),
        shift_dates=st.booleans(),
        phi_key_from=st.sampled_from(["env", "file:/run/key"]),
        bucket_owner=st.sampled_from([None, "123456789012"]),
        sse_s3=st.booleans(),
        settle=st.integers(0, 999_999).map(lambda number: parse_duration(f"{number}s")),
        partition=st.sampled_from(["day", "month", None]),
        page_budget=st.integers(1, 99),
        buffer_bytes=st.integers(1, 10**6),
        max_attempts=st.integers(1, 99),
    )
)
def test_settings_become_parameters_and_settings_again(settings: Settings) -> None:
    """Nothing that a run is told on the command line is lost on its way through a flow."""
    parameters = parameters_of(settings, "look_back", "start", "every")
    assert make_settings(**json.loads(json.dumps(parameters))) == settings


def test_a_deployment_runs_with_the_defaults_of_the_command_line() -> None:
    """Where nothing is said, a deployed run and a run from the shell have the same settings."""
    shown = parameter_schema(sync).model_dump()["properties"]
    parameters = {name: shown[name]["default"] for name in ("rate", "burst", "look_back", "start", "options")}
    given = make_settings(catalog="folder", datastore_ids=[DATASTORE], **parameters)
    assert given == Settings(catalog="folder", datastore_id=DATASTORE)


def test_every_setting_is_a_parameter_or_an_option() -> None:
    """A setting that is added cannot be forgotten: a flow takes it by name, or among the options."""
    schema = parameter_schema(watch).model_dump()
    of_metadata = parameter_schema(metadata).model_dump()["properties"]
    shown = of_metadata | schema["properties"] | schema["definitions"]["Options"]["properties"]
    for name, setting in declared().items():
        if name == "datastore_id":
            continue  # a flow takes several
        assert shown[name]["description"] == setting.description
        assert shown[name].get("default") == ([] if setting.default == () else setting.default)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sync-cron", "hourly"], "--sync-cron is a cron expression"),
        (["--verify-cron", "60 * * * *"], "--verify-cron is a cron expression"),
        (["--time-zone", "Mars/Base"], "--time-zone is one of the IANA's names"),
        (["--part", "31/30"], "part 31 of 30"),
        (["--share", "2"], "the share of the quota"),
        (["--kms-key", "alias/catalog", "--sse-s3"], "not both"),
        (["--shift-dates"], "go with --phi pseudonymize"),
        ([], "no Prefect server"),
    ],
)
def test_serve_refuses_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot work is said at once: exit code 2, and one line."""
    told = ["serve", "--catalog", "s3://bucket/imaging", "--datastore-id", DATASTORE, *arguments]
    assert run(told) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_the_options_that_the_docs_show_are_some() -> None:
    """The line that docs/schedules.md shows for prefect.yaml fits there, and holds options that there are."""
    [line] = re.findall(r"^  options: &options \{ .*$", (ROOT / "docs/schedules.md").read_text("utf-8"), re.MULTILINE)
    assert re.search(r"^  options: &options ", (ROOT / "prefect.yaml").read_text("utf-8"), re.MULTILINE)
    assert Options(**yaml.safe_load(line)["options"]).phi == "pseudonymize"
