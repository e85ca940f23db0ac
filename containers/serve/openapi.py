"""What the app answers, described in OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1)."""

from collections.abc import Sequence
from typing import Any

from containers.serve.formats import MAX_BYTES, WRAPPERS

Schema = dict[str, Any]

ITEM: Schema = {
    "anyOf": [
        {"type": "string"},
        {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
    ]
}
ITEMS: Schema = {"type": "array", "minItems": 1, "items": ITEM}
WRAPPED: list[Schema] = [
    {"type": "object", "required": [key], "properties": {key: {"anyOf": [ITEM, ITEMS]}}} for key in WRAPPERS
]
LINES: Schema = {"schema": {"type": "string"}, "example": '"what a great day"\n{"text": "I hate delays"}\n'}
TEXTS: Schema = {
    "application/json": {
        "schema": {"anyOf": [ITEM, ITEMS, *WRAPPED]},
        "example": ["what a great day", "I hate delays"],
    },
    "application/jsonlines": LINES,
    "application/x-ndjson": LINES,
    "text/csv": {"schema": {"type": "string"}, "example": "id,text\n1,what a great day\n2,I hate delays\n"},
    "text/plain": {"schema": {"type": "string"}, "example": "what a great day"},
}

REFUSALS = {
    "400": "The body is not what its Content-Type says, or holds no text. The message names the place.",
    "406": "None of the types in Accept is written here.",
    "413": f"The body is larger than {MAX_BYTES:,} bytes.",
    "415": "The Content-Type or its charset is not read here.",
    "500": "The server failed. Its log says why.",
}


def describe(version: str, columns: Sequence[str]) -> Schema:
    """Return the description.

    Args:
        version: Model version.
        columns: Keys of a prediction: `label`, then `p_<label>` for each label.
    """
    labels = {"enum": [name.removeprefix("p_") for name in columns[1:]]}
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    prediction = _object(label=labels, **dict.fromkeys(columns[1:], probability))
    lines = {"schema": {"type": "string", "description": "A prediction on each line."}}
    predictions = {
        "application/json": _schema(_object(predictions={"type": "array", "items": prediction})),
        "application/jsonlines": lines,
        "application/x-ndjson": lines,
        "text/csv": _schema({"type": "string", "description": f"A row each, after {','.join(columns)}."}),
    }
    attributes = {
        "description": "`version=` and the model version, `;digest=` and 12 digits of the bundle's SHA-256.",
        "schema": {"type": "string"},
    }
    string = {"type": "string"}
    health = _object(
        status={"const": "ok"}, version=string, digest=string, labels={"type": "array", "items": labels}
    )
    refused = {"application/json": _schema(_object(error=string))}
    refusals = {status: {"description": why, "content": refused} for status, why in REFUSALS.items()}
    answered = {
        "description": "A prediction for each text, in order.",
        "headers": {"X-Amzn-SageMaker-Custom-Attributes": attributes},
        "content": predictions,
    }
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Tweet sentiment",
            "version": version,
            "description": "Texts in, as they were written and in UTF-8; labels and probabilities out.",
        },
        "paths": {
            "/ping": {"get": _get("ping", "Tell which model answers", health)},
            "/invocations": {
                "post": {
                    "operationId": "invoke",
                    "summary": "Tell label and probabilities of each text",
                    "requestBody": {"required": True, "content": TEXTS},
                    "responses": {"200": answered, **refusals},
                }
            },
            "/openapi.json": {"get": _get("describe", "Return this description", {"type": "object"})},
        },
    }


def _get(name: str, summary: str, answer: Schema) -> Schema:
    responses = {"200": {"description": "Always.", "content": {"application/json": _schema(answer)}}}
    return {"operationId": name, "summary": summary, "responses": responses}


def _schema(schema: Schema) -> Schema:
    return {"schema": schema}


def _object(**properties: Schema) -> Schema:
    """Return the schema of an object that has just these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
