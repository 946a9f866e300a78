"""A schema without references: each definition stands where it is used."""

import pytest

from allm_actors.data.schemas.inlining import inlined

TEXT = {"type": "string"}
CITY = {"type": "object", "properties": {"name": TEXT}, "required": ["name"]}


def ref(name, **beside):
    return {"$ref": f"#/$defs/{name}", **beside}


def of(defs, **properties):
    return {"type": "object", "properties": properties} | ({"$defs": defs} if defs else {})


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        (of({"City": CITY}, a=ref("City"), b=ref("City")), of({}, a=CITY, b=CITY)),
        (
            of({"City": CITY, "Trip": of({}, to=ref("City"))}, a=ref("Trip")),
            of({}, a=of({}, to=CITY)),
        ),
        (
            of({"City": CITY}, a={"anyOf": [ref("City"), {"type": "null"}]}),
            of({}, a={"anyOf": [CITY, {"type": "null"}]}),
        ),
        (
            of({"City": CITY}, a={"type": "array", "items": ref("City")}),
            of({}, a={"type": "array", "items": CITY}),
        ),
        (of({"City": CITY}, a=ref("City", description="A.")), of({}, a={**CITY, "description": "A."})),
        (
            of({"City": CITY}, a=ref("City", required=["x"])),
            of({}, a={"allOf": [CITY, {"required": ["x"]}]}),
        ),
        (of({"Any": True}, a=ref("Any")), of({}, a=True)),
        (
            of(
                {"City": CITY},
                a={"oneOf": [ref("City")], "discriminator": {"mapping": {"c": "#/$defs/City"}}},
            ),
            of({}, a={"oneOf": [CITY]}),
        ),
        ({**ref("City"), "$defs": {"City": CITY}}, CITY),
        (of({"City": CITY}, a=TEXT), of({}, a=TEXT)),
    ],
)
def test_a_definition_stands_where_it_is_used(schema, form):
    before = repr(schema)
    assert inlined(schema) == form
    assert inlined(form) == form
    assert repr(schema) == before


def test_a_definition_that_an_anchor_names_stays():
    schema = of({"City": {**CITY, "$anchor": "city"}, "N": TEXT}, a={"$ref": "#city"}, b=ref("N"))
    assert inlined(schema) == {**schema, "properties": {"a": {"$ref": "#city"}, "b": TEXT}}


def test_what_refers_to_itself_stays_a_definition():
    tree = of({}, next=ref("Tree"), at=ref("City"))
    schema = of({"Tree": tree, "City": CITY, "Trip": of({}, to=ref("City"))}, a=ref("Tree"), b=ref("Trip"))
    assert inlined(schema) == of({"Tree": tree, "City": CITY}, a=ref("Tree"), b=of({}, to=CITY))
    odd, even = of({}, next=ref("Even")), of({}, next=ref("Odd"))
    around = of({"Odd": odd, "Even": even}, a=ref("Odd"))
    assert inlined(around) == around


@pytest.mark.parametrize(
    "pointer", ["#/$defs/City/properties/name", "#/$defs/Unknown", "#/properties/b", "#"]
)
def test_what_refers_to_something_else_is_left_alone(pointer):
    schema = of({"City": CITY}, a={"$ref": pointer}, b=ref("City"))
    kept = {"City": CITY} if pointer.startswith("#/$defs/") else {}
    assert inlined(schema) == of(kept, a={"$ref": pointer}, b=CITY)


def test_a_schema_does_not_grow_without_end():
    defs = {f"D{n}": of({}, a=ref(f"D{n + 1}"), b=ref(f"D{n + 1}")) for n in range(40)} | {"D40": TEXT}
    form = inlined(of(defs, a=ref("D0")))
    assert len(repr(form)) < 200_000
    assert "D40" in form["$defs"]


@pytest.mark.parametrize(
    "schema", [{"$defs": 3}, {"properties": [], "anyOf": 7, "$defs": {}}, {"$ref": 3, "$defs": {}}]
)
def test_what_is_no_schema_is_left_for_the_provider_to_refuse(schema):
    assert inlined(schema) == {key: value for key, value in schema.items() if value != {}}
