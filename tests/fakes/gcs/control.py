"""What tests of another process ask of the fake: /__log, /__faults, /__reset, /__clock, /__permissions."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from tests.fakes.gcs.call import Answer, json_answer
from tests.fakes.gcs.errors import Refusal

if TYPE_CHECKING:
    from tests.fakes.gcs.call import Call


async def handle(call: Call) -> Answer:
    """Requests that are not the service's own; they are not logged."""
    world = call.world
    match (call.method, call.raw_path):
        case ("GET", "/__log"):
            return json_answer([asdict(entry) for entry in world.log])
        case ("POST", "/__faults"):
            asked = await call.body.json()
            try:
                for fault in asked.get("faults", [asked]):
                    world.faults.add(**fault)
            except TypeError as wrong:
                raise Refusal(400, f"Not a fault: {wrong}") from None
            return json_answer({"pending": len(world.faults.pending())})
        case ("POST", "/__reset"):
            world.reset()
            return json_answer({})
        case ("POST", "/__clock"):
            world.clock.offset_s += float((await call.body.json())["advanceS"])
            return json_answer({"now": world.clock.now()})
        case ("POST", "/__permissions"):
            world.denied = set((await call.body.json()).get("deny", []))
            return json_answer({"denied": sorted(world.denied)})
        case ("GET", "/__objects"):
            objects = [one for bucket in world.buckets.values() for one in bucket.objects.values()]
            return json_answer([stored.resource(call.base) for stored in objects])
    raise Refusal(501, f"The fake knows no {call.method} {call.raw_path}")
