"""What each operation answers: checked parameters in, the JSON body out."""

import gzip
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from ahi_catalog.emulator.clock import epoch_number, from_wire
from ahi_catalog.emulator.errors import inconsistent, invalid_token, not_found
from ahi_catalog.emulator.faults import Fault, PageAnswer
from ahi_catalog.emulator.model import Operation
from ahi_catalog.emulator.search import Query, parse_query
from ahi_catalog.emulator.service import METADATA, Service
from ahi_catalog.emulator.store import Datastore, lag_micros

_PAGE = 50
_QUERIES = 1024
_LEVEL = 1
"""Of gzip: a third of the time of the usual one."""


class Operations:
    """Answers the operations of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        # A scan sends the same body with every page: parse it once.
        self._queries: dict[tuple[str, bytes], Query] = {}
        self._answers: dict[str, Callable[[Mapping[str, Any], Fault | None], bytes]] = {
            "GetImageSet": self._get_image_set,
            METADATA: self._get_metadata,
            "ListDatastores": self._list_datastores,
            "GetDatastore": self._get_datastore,
        }

    def answer(self, operation: Operation, parameters: Mapping[str, Any], raw: bytes, fault: Fault | None) -> bytes:
        """The body of an answer: JSON, of metadata zipped.

        Raises:
            ServiceError: The request is refused.
        """
        with self._service.lock:
            if operation.name == "SearchImageSets":
                query = self._query(operation, parameters["datastoreId"], raw)
                return self._search(query, parameters, fault)
            return self._answers[operation.name](parameters, fault)

    def _query(self, operation: Operation, datastore_id: str, raw: bytes) -> Query:
        query = self._queries.get((datastore_id, raw))
        if query is None:
            query = parse_query(datastore_id, operation.body(raw), self._service.options)
            if len(self._queries) >= _QUERIES:
                self._queries.clear()
            self._queries[datastore_id, raw] = query
        return query

    def _search(self, query: Query, parameters: Mapping[str, Any], fault: Fault | None) -> bytes:
        service = self._service
        store = service.datastore(parameters["datastoreId"])
        now = service.now_micros()
        store.settle(now)
        token = parameters.get("nextToken")
        after = None if token is None else service.tokens.position(token, query.fingerprint, now)
        found = store.searcher.page(
            query,
            after,
            parameters.get("maxResults", _PAGE),
            offset_tokens=service.options.offset_tokens,
        )
        token_of_next = None if found.next is None else service.tokens.give(query.fingerprint, found.next, now)
        page = PageAnswer(records=found.records, next_token=token_of_next, request_token=token)
        if fault is not None and fault.kind.page is not None:
            page = fault.kind.page(page)
        parts = [b'{"imageSetsMetadataSummaries":[', b",".join([its.body for its in page.records]), b"]"]
        if query.sort_json is not None:
            parts += [b',"sort":', query.sort_json]
        if page.next_token is not None:
            # Our tokens are URL-safe, and need no escaping.
            parts += [b',"nextToken":"', page.next_token.encode(), b'"']
        parts.append(b"}")
        return b"".join(parts)

    def _get_image_set(self, parameters: Mapping[str, Any], _: Fault | None) -> bytes:
        service = self._service
        store = service.datastore(parameters["datastoreId"])
        name = parameters["imageSetId"]
        deleted = None if service.options.deleted_is_gone else store.deleted.get(name)
        record = deleted.record if deleted else store.current.get(name)
        if record is None:
            raise not_found("image set")
        summary = record.summary()
        version = str(summary.get("version", 1))
        # Only the last version is kept.
        if parameters.get("versionId", version) != version:
            raise not_found("version of the image set")
        body: dict[str, Any] = {
            "datastoreId": store.datastore_id,
            "imageSetId": name,
            "versionId": version,
            "imageSetState": "DELETED" if deleted else "ACTIVE",
            "imageSetWorkflowStatus": "DELETED" if deleted else "CREATED" if version == "1" else "UPDATED",
            "createdAt": _time(record.created),
            "updatedAt": _time(record.updated),
            "imageSetArn": f"{self._arn(store)}/imageset/{name}",
        }
        if deleted:
            body["deletedAt"] = _time(deleted.at)
        if "lastAccessedAt" in summary:
            body["lastAccessedAt"] = _time(from_wire(summary["lastAccessedAt"]))
        for key in ("isPrimary", "storageTier"):
            if key in summary:
                body[key] = summary[key]
        return orjson.dumps(body)

    def _get_metadata(self, parameters: Mapping[str, Any], _: Fault | None) -> bytes:
        service = self._service
        store = service.datastore(parameters["datastoreId"])
        name = parameters["imageSetId"]
        record = store.current.get(name)
        if record is None:
            raise not_found("image set")
        # Only the last version is kept.
        version = str(record.summary().get("version", 1))
        if parameters.get("versionId", version) != version:
            raise not_found("version of the image set")
        now = service.now_micros()
        if now < max(record.created, record.updated) + lag_micros(service.options.metadata_lag):
            raise inconsistent()
        body = gzip.compress(store.describe(record), _LEVEL, mtime=0)
        # It counts as an access, and an image set that is accessed is not in the archive.
        accessed = {"storageTier": "FREQUENT_ACCESS", "lastAccessedAt": now}
        store.update(name, accessed, None, now, new_version=False)
        return body

    def _list_datastores(self, parameters: Mapping[str, Any], _: Fault | None) -> bytes:
        service = self._service
        now = service.now_micros()
        # Every data store is ACTIVE here.
        wanted = parameters.get("datastoreStatus", "ACTIVE") == "ACTIVE"
        stores = sorted(service.datastores.values(), key=lambda store: store.datastore_id) if wanted else []
        start = 0
        if "nextToken" in parameters:
            position = service.tokens.position(parameters["nextToken"], "ListDatastores", now)
            if not isinstance(position, int):
                raise invalid_token()
            start = position
        stop = start + parameters.get("maxResults", _PAGE)
        body: dict[str, Any] = {
            "datastoreSummaries": [self._properties(store) for store in stores[start:stop]],
        }
        if stop < len(stores):
            body["nextToken"] = service.tokens.give("ListDatastores", stop, now)
        return orjson.dumps(body)

    def _get_datastore(self, parameters: Mapping[str, Any], _: Fault | None) -> bytes:
        store = self._service.datastore(parameters["datastoreId"])
        return orjson.dumps({"datastoreProperties": self._properties(store)})

    def _properties(self, store: Datastore) -> dict[str, Any]:
        return {
            "datastoreId": store.datastore_id,
            "datastoreName": store.name,
            "datastoreStatus": "ACTIVE",
            "datastoreArn": self._arn(store),
            "createdAt": _time(store.created),
            "updatedAt": _time(store.created),
        }

    def _arn(self, store: Datastore) -> str:
        options = self._service.options
        return f"arn:aws:medical-imaging:{options.region}:{options.account}:datastore/{store.datastore_id}"


def _time(micros: int) -> orjson.Fragment:
    return orjson.Fragment(epoch_number(micros))
