"""The description says what the app does: its types, its answers, its refusals."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator
from starlette.applications import Starlette
from starlette.testclient import TestClient

from containers.serve.app import create_app
from containers.serve.formats import MAX_BYTES, READERS, WRAPPERS, WRITERS
from containers.serve.predictor import Predictor
from tests.bundles import build_bundle


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Starlette:
    folder = tmp_path_factory.mktemp("bundle")
    build_bundle(folder)
    return create_app(Predictor(folder), "3")


@pytest.fixture(scope="module")
def client(app: Starlette) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def description(client: TestClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("/openapi.json").json()
    return answer


def operation(description: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = description["paths"]["/invocations"]["post"]
    return found


def schemas(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "schema" in node:
            yield node["schema"]
        for value in node.values():
            yield from schemas(value)


def check(description: dict[str, Any], path: str, method: str, answer: Any) -> None:
    """Hold a real answer against its description."""
    responses = description["paths"][path][method]["responses"]
    content = responses[str(answer.status_code)]["content"]
    kind = answer.headers["content-type"].split(";")[0]
    value = answer.json() if kind == "application/json" else answer.text
    Draft202012Validator(content[kind]["schema"]).validate(value)


def test_it_is_openapi(description: dict[str, Any]) -> None:
    assert description["openapi"].startswith("3.1.")
    assert description["info"]["version"] == "3"
    OpenAPI.model_validate(description)
    found = list(schemas(description))
    assert len(found) > 10
    for schema in found:
        Draft202012Validator.check_schema(schema)


def test_it_names_all_paths_and_types(app: Starlette, description: dict[str, Any]) -> None:
    routes = {(route.path, method.lower()) for route in app.routes for method in route.methods - {"HEAD"}}  # type: ignore[attr-defined]
    assert routes == {(path, method) for path, methods in description["paths"].items() for method in methods}
    assert operation(description)["requestBody"]["content"].keys() == READERS.keys()
    assert operation(description)["responses"]["200"]["content"].keys() == WRITERS.keys()


@pytest.mark.parametrize("path", ["/ping", "/openapi.json"])
def test_what_is_got(client: TestClient, description: dict[str, Any], path: str) -> None:
    check(description, path, "get", client.get(path))


@pytest.mark.parametrize("accept", WRITERS)
@pytest.mark.parametrize("kind", READERS)
def test_examples_are_answered_as_described(
    client: TestClient, description: dict[str, Any], kind: str, accept: str
) -> None:
    example = operation(description)["requestBody"]["content"][kind]["example"]
    headers = {"Content-Type": kind, "Accept": accept}
    body = {"json": example} if kind == "application/json" else {"content": example}
    answer = client.post("/invocations", headers=headers, **body)
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == accept
    assert all(name in answer.headers for name in operation(description)["responses"]["200"]["headers"])
    check(description, "/invocations", "post", answer)


BODIES: list[Any] = ["a", {"text": "a"}, ["a", {"text": "b"}], *({key: ["a"]} for key in WRAPPERS)]
BODIES += [{key: "a"} for key in WRAPPERS]
WRONG: list[Any] = [1, None, [], [1], {"text": 1}, {"other": "a"}, {"instances": []}, {"instances": [None]}]


@pytest.mark.parametrize("body", [*BODIES, *WRONG], ids=repr)
def test_json_is_taken_just_when_the_schema_allows_it(
    client: TestClient, description: dict[str, Any], body: Any
) -> None:
    schema = operation(description)["requestBody"]["content"]["application/json"]["schema"]
    headers = {"Content-Type": "application/json"}
    answer = client.post("/invocations", content=json.dumps(body), headers=headers)
    assert answer.status_code == (200 if Draft202012Validator(schema).is_valid(body) else 400)
    assert (answer.status_code == 200) is (body in BODIES)


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "text/plain", "Accept": "image/png"}, b"a", 406),
        ({"Content-Type": "text/plain"}, b" " * (MAX_BYTES + 1), 413),
        ({"Content-Type": "image/png"}, b"a", 415),
    ],
)
def test_refusals_are_described(
    client: TestClient, description: dict[str, Any], headers: dict[str, str], content: bytes, status: int
) -> None:
    answer = client.post("/invocations", headers=headers, content=content)
    assert answer.status_code == status
    check(description, "/invocations", "post", answer)


def test_a_failure_is_described(description: dict[str, Any], tmp_path: Path) -> None:
    class Broken(Predictor):
        def predict(self, texts: object) -> Any:
            raise RuntimeError("inside")

    build_bundle(tmp_path)
    client = TestClient(create_app(Broken(tmp_path), "3"), raise_server_exceptions=False)
    answer = client.post("/invocations", json="a")
    assert answer.status_code == 500
    check(description, "/invocations", "post", answer)
