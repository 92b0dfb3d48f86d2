"""What schemathesis is told of this API, and what it is kept from doing."""

import io
import os
import tarfile

import schemathesis
from schemathesis.core.parameters import ParameterLocation

KEEP = os.environ.get("BANDSOX_KEEP", "")  # a running sandbox's id
KEY = os.environ.get("BANDSOX_KEY_ID", "")  # of the key that the requests have
SPARE = os.environ.get("BANDSOX_SPARE", KEEP)  # another's
IMAGE = os.environ.get("BANDSOX_IMAGE", "")

# What ends the sandbox that the other routes are tried on, or stops it: these
# have one of their own. DELETE has those that POST /api/vms made, and none.
ENDS_IT = {
    ("PATCH", "/api/vms/{id}"),  # a ttl of a second
    ("POST", "/api/vms/{id}/stop"),
    ("POST", "/api/vms/{id}/kill"),
    ("POST", "/api/vms/{id}/restart"),
    ("POST", "/api/vms/{id}/pause"),
}

# What takes the place of texts, and lists of them, that would do harm, or
# nothing at all. What is of another kind stays, to be refused for what it is.
INSTEAD = {
    # An image that there is. Any other is looked for in the network.
    ("POST", "/api/vms"): {"image": IMAGE},
    ("POST", "/api/images/pull"): {"image": IMAGE},
    # Without QEMU a sandbox's programs run on this host as whoever runs it.
    ("POST", "/api/vms/{id}/exec"): {"command": "echo out; echo err >&2; exit 3", "args": ["true"]},
    ("POST", "/api/vms/{id}/processes"): {"command": "echo out; sleep 0.1", "args": ["true"]},
    ("POST", "/api/vms/{id}/exec-python"): {"code": "print(1)", "packages": []},  # packages come from the network
    # And its links would lead out of it.
    ("POST", "/api/vms/{id}/files/symlink"): {"target": "hello"},
    # Nobody else's server is told of what happens here.
    ("POST", "/api/webhooks"): {"url": "http://127.0.0.1:1/hook"},
}


@schemathesis.hook
def before_call(context, case, kwargs):
    route = case.operation.method.upper(), case.operation.path
    path = case.path_parameters or {}
    if "id" in path and not negative(case, ParameterLocation.PATH):
        linked = case.meta is not None and case.meta.phase.name.value == "stateful"
        if route in ENDS_IT and (path["id"] == KEEP or not linked):
            path["id"] = SPARE
        elif route == ("DELETE", "/api/vms/{id}") and path["id"] == KEEP:
            path["id"] = "gone"
        elif route != ("DELETE", "/api/vms/{id}") and not linked:
            path["id"] = KEEP
    if KEY and path.get("key") == KEY:
        path["key"] = "gone"  # it could ask for nothing more
    if route == ("GET", "/api/vms/{id}/wait") and not negative(case, ParameterLocation.QUERY):
        case.query["timeout"] = 0.1  # without one it waits for as long as it takes
    if isinstance(case.body, dict):
        for field, harmless in INSTEAD.get(route, {}).items():
            if alike(case.body.get(field), harmless):
                case.body[field] = harmless


def alike(value, harmless):
    if isinstance(harmless, list):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def negative(case, where):
    return case.meta is not None and case.meta.is_negative_at(where)


@schemathesis.serializer("application/x-tar")
def tar(context, value):
    """An archive with the value as a file in it, for a body that is just bytes."""
    data = value if isinstance(value, bytes) else str(value).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()
