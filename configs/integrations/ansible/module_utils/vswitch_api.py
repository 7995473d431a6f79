"""The daemon's API on its unix socket, for the modules beside this folder."""

import http.client
import json
import socket
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule

SOCKET = {"type": "path", "default": "/run/vswitch/control.sock"}


class ApiError(Exception):
    """The daemon has refused something, or can't be reached."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class _Connection(http.client.HTTPConnection):
    def __init__(self, path):
        # An edit may take its time: it waits for workers, the kernel and disks.
        super().__init__("localhost", timeout=300)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def call(path, method, route, body=None):
    """One request; what is answered, as (value, ETag)."""
    connection = _Connection(path)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, route, text, {"Content-Type": "application/json"} if text else {})
        answer = connection.getresponse()
        status, tag, text = answer.status, answer.getheader("ETag"), answer.read()
    except OSError as error:
        raise ApiError(0, "vswitchd can't be reached at %s: %s; is it running?" % (path, error))
    finally:
        connection.close()
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        raise ApiError(status, "vswitchd at %s answered no JSON: %.200s" % (path, text))
    if status >= 400:
        words = [value.get("object"), value.get("cause"), value.get("hint")]
        raise ApiError(status, ": ".join(word for word in words if word))
    return value, tag


def result(changes):
    """What a module returns for what an edit did, or would do."""
    before, after = {}, {}
    for change in changes.get("changes", []):
        where = " ".join(word for word in (change["kind"], change["name"], change.get("key")) if word)
        if change.get("before") is not None:
            before[where] = change["before"]
        if change.get("after") is not None:
            after[where] = change["after"]
    return {
        "changed": bool(changes["done"]),
        "done": changes["done"],
        "changes": changes.get("changes", []),
        "diff": {"before": before, "after": after},
    }


def _said(value):
    """Without what is null: of something new that says no more than leaving it out."""
    if isinstance(value, dict):
        return {key: _said(inner) for key, inner in value.items() if inner is not None}
    return value


def _add(module, route, body):
    try:
        return call(module.params["socket"], "POST", route, body)[0]
    except ApiError as error:
        # What it needs, such as its switch, may be what a task before would have added.
        if module.check_mode and error.status == 404:
            return {"done": ["added %s" % body["name"]], "warnings": ["as things are now it can't be added: %s" % error]}
        raise


def one(collection):
    """Runs the module for one thing of a collection of the API. Its DOCUMENTATION has these options."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "settings": {"type": "dict", "default": {}},
            "socket": SOCKET,
        },
        supports_check_mode=True,
    )
    wanted, path = module.params, module.params["socket"]
    settings = dict(wanted.get("settings") or {})
    route = "/v1/%s/%s" % (collection, quote(wanted["name"], safe=""))
    query = "?dry_run" if module.check_mode else ""
    try:
        try:
            call(path, "GET", route)
            there = True
        except ApiError as error:
            if error.status != 404:
                raise
            there = False
        if wanted["state"] == "absent":
            changes = call(path, "DELETE", route + query)[0] if there else {"done": []}
        elif there:
            changes = call(path, "PATCH", route + query, settings)[0] if settings else {"done": []}
        else:
            body = dict(_said(settings), name=wanted["name"])
            changes = _add(module, "/v1/" + collection + query, body)
    except ApiError as error:
        module.fail_json(msg=str(error))
    for line in changes.get("warnings", []):
        module.warn(line)
    module.exit_json(**result(changes))
